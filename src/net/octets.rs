//! [pure] Reads numbers in network order and runs of bytes, and nothing beyond the end.

/// A place in a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Octets<'a> {
    whole: &'a [u8],
    at: usize,
}

impl<'a> Octets<'a> {
    /// At the beginning of the message.
    pub(super) fn new(whole: &'a [u8]) -> Self {
        Self { whole, at: 0 }
    }

    /// The same message at another place; beyond its end nothing can be read.
    pub(super) fn moved(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// Bytes before this place.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// All that was read since `from`.
    pub(super) fn since(&self, from: usize) -> Option<&'a [u8]> {
        self.whole.get(from..self.at)
    }

    /// Whether nothing is left.
    pub(super) fn is_empty(&self) -> bool {
        self.at >= self.whole.len()
    }

    /// So many bytes.
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.whole.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    /// One byte.
    pub(super) fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes.
    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    /// Bytes behind one byte with their number.
    pub(super) fn short(&mut self) -> Option<&'a [u8]> {
        let count = self.u8()?;
        self.take(usize::from(count))
    }

    /// Bytes behind two bytes with their number.
    pub(super) fn long(&mut self) -> Option<&'a [u8]> {
        let count = self.u16()?;
        self.take(usize::from(count))
    }
}
