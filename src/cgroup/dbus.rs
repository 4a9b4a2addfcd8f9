//! [pure] D-Bus messages: writes calls, reads replies and signals (D-Bus specification 0.43).
//!
//! Only what talking to systemd's user manager needs: the types y b u s o g v, arrays and
//! structs by hand, little-endian in both directions.

/// A message of systemd's is small; a larger one is refused before it is kept.
pub const LIMIT: usize = 1 << 20;

/// The fixed part of a header, which tells the length of the whole message.
pub const FIXED: usize = 16;

const LITTLE_ENDIAN: u8 = b'l';
const VERSION: u8 = 1;

const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const ERROR_NAME: u8 = 4;
const REPLY_SERIAL: u8 = 5;
const DESTINATION: u8 = 6;
const SIGNATURE: u8 = 8;

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A method call.
    Call,
    /// The answer to a call.
    Reply,
    /// The refusal of a call.
    Error,
    /// News for who asked to hear it.
    Signal,
}

/// A message, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it is.
    pub kind: Kind,
    /// Which call it answers.
    pub reply_serial: Option<u32>,
    /// Interface of a call or signal.
    pub interface: Option<String>,
    /// Method or signal name.
    pub member: Option<String>,
    /// Name of an error, such as `org.freedesktop.DBus.Error.AccessDenied`.
    pub error_name: Option<String>,
    /// Types of the body.
    pub signature: String,
    /// The arguments, marshalled.
    pub body: Vec<u8>,
}

/// The object, interface and method of a call.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Bus name.
    pub destination: &'a str,
    /// Object path.
    pub path: &'a str,
    /// Interface.
    pub interface: &'a str,
    /// Method.
    pub member: &'a str,
}

/// Bytes that are no message we accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

/// Marshals values; alignment counts from the start of the message part it makes.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// Pads with zeros to a multiple of `to`.
    pub fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    /// `y`.
    pub fn byte(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// `u`.
    pub fn uint32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    /// `b`.
    pub fn boolean(&mut self, value: bool) {
        self.uint32(u32::from(value));
    }

    /// `s` or `o`. A length that does not fit is cut by [`call`], which bounds the message.
    pub fn string(&mut self, value: &str) {
        self.uint32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// `g`; signatures here are constants of a few characters.
    pub fn signature(&mut self, value: &str) {
        self.bytes
            .push(u8::try_from(value.len()).unwrap_or(u8::MAX));
        self.bytes.extend(value.as_bytes());
        self.bytes.push(0);
    }

    /// An array whose elements align to `alignment` and are written by `elements`. Its length
    /// does not count the padding before the first element.
    pub fn array(&mut self, alignment: usize, elements: impl FnOnce(&mut Self)) {
        self.uint32(0);
        let length_at = self.bytes.len() - 4;
        self.align(alignment);
        let start = self.bytes.len();
        elements(self);
        let length = u32::try_from(self.bytes.len() - start).unwrap_or(u32::MAX);
        self.bytes[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
    }

    /// The bytes written.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

/// A method call with a body of the given types, or `Malformed` if it exceeds [`LIMIT`].
pub fn call(
    serial: u32,
    call: Call<'_>,
    signature: &str,
    body: &[u8],
) -> Result<Vec<u8>, Malformed> {
    let mut header = Writer::default();
    for byte in [LITTLE_ENDIAN, 1, 0, VERSION] {
        header.byte(byte);
    }
    header.uint32(u32::try_from(body.len()).map_err(|_| Malformed)?);
    header.uint32(serial);
    header.array(8, |fields| {
        field(fields, PATH, "o", |value| value.string(call.path));
        field(fields, INTERFACE, "s", |value| value.string(call.interface));
        field(fields, MEMBER, "s", |value| value.string(call.member));
        field(fields, DESTINATION, "s", |value| {
            value.string(call.destination)
        });
        if !signature.is_empty() {
            field(fields, SIGNATURE, "g", |value| value.signature(signature));
        }
    });
    header.align(8);
    let mut message = header.into_bytes();
    message.extend(body);
    if message.len() > LIMIT {
        Err(Malformed)
    } else {
        Ok(message)
    }
}

fn field(fields: &mut Writer, code: u8, signature: &str, value: impl FnOnce(&mut Writer)) {
    fields.align(8);
    fields.byte(code);
    fields.signature(signature);
    value(fields);
}

/// The length of the whole message that starts with these bytes.
pub fn length(fixed: &[u8; FIXED]) -> Result<usize, Malformed> {
    let number = |at: usize| -> Result<usize, Malformed> {
        let bytes = fixed[at..at + 4].try_into().map_err(|_| Malformed)?;
        usize::try_from(u32::from_le_bytes(bytes)).map_err(|_| Malformed)
    };
    if fixed[0] != LITTLE_ENDIAN || fixed[3] != VERSION {
        return Err(Malformed);
    }
    let (body, fields) = (number(4)?, number(12)?);
    if body > LIMIT || fields > LIMIT {
        return Err(Malformed);
    }
    let total = (FIXED + fields).next_multiple_of(8) + body;
    if total > LIMIT {
        Err(Malformed)
    } else {
        Ok(total)
    }
}

/// Reads one whole message. Total on any bytes.
pub fn parse(bytes: &[u8]) -> Result<Message, Malformed> {
    let fixed: &[u8; FIXED] = bytes.first_chunk().ok_or(Malformed)?;
    if length(fixed)? != bytes.len() {
        return Err(Malformed);
    }
    let mut reader = Reader::new(bytes);
    reader.skip(4)?;
    let body_length = usize::try_from(reader.uint32()?).map_err(|_| Malformed)?;
    let mut message = Message {
        kind: kind(fixed[1])?,
        reply_serial: None,
        interface: None,
        member: None,
        error_name: None,
        signature: String::new(),
        body: bytes[bytes.len() - body_length..].to_vec(),
    };
    reader.skip(4)?;
    let end = usize::try_from(reader.uint32()?).map_err(|_| Malformed)? + FIXED;
    while reader.at < end {
        read_field(&mut reader, &mut message)?;
    }
    if reader.at == end {
        Ok(message)
    } else {
        Err(Malformed)
    }
}

fn kind(code: u8) -> Result<Kind, Malformed> {
    match code {
        1 => Ok(Kind::Call),
        2 => Ok(Kind::Reply),
        3 => Ok(Kind::Error),
        4 => Ok(Kind::Signal),
        _ => Err(Malformed),
    }
}

/// One header field. Codes we have no use for are read past, as the specification asks.
fn read_field(reader: &mut Reader<'_>, message: &mut Message) -> Result<(), Malformed> {
    reader.align(8)?;
    let code = reader.byte()?;
    match (code, reader.signature()?) {
        (REPLY_SERIAL, "u") => message.reply_serial = Some(reader.uint32()?),
        (INTERFACE, "s") => message.interface = Some(reader.string()?.to_owned()),
        (MEMBER, "s") => message.member = Some(reader.string()?.to_owned()),
        (ERROR_NAME, "s") => message.error_name = Some(reader.string()?.to_owned()),
        (SIGNATURE, "g") => message.signature = reader.signature()?.to_owned(),
        (_, "u") => reader.uint32().map(drop)?,
        (_, "s" | "o") => reader.string().map(drop)?,
        (_, "g") => reader.signature().map(drop)?,
        _ => return Err(Malformed),
    }
    Ok(())
}

/// Reads marshalled values; never past the end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte, to which alignment is relative.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(count).ok_or(Malformed)?;
        let taken = self.bytes.get(self.at..end).ok_or(Malformed)?;
        self.at = end;
        Ok(taken)
    }

    fn skip(&mut self, count: usize) -> Result<(), Malformed> {
        self.take(count).map(drop)
    }

    fn align(&mut self, to: usize) -> Result<(), Malformed> {
        self.skip(self.at.next_multiple_of(to) - self.at)
    }

    fn byte(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    /// `u`.
    pub fn uint32(&mut self) -> Result<u32, Malformed> {
        self.align(4)?;
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    /// `s` or `o`.
    pub fn string(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::try_from(self.uint32()?).map_err(|_| Malformed)?;
        self.terminated(length)
    }

    fn signature(&mut self) -> Result<&'a str, Malformed> {
        let length = usize::from(self.byte()?);
        self.terminated(length)
    }

    fn terminated(&mut self, length: usize) -> Result<&'a str, Malformed> {
        let text = std::str::from_utf8(self.take(length)?).map_err(|_| Malformed)?;
        if self.byte()? == 0 && !text.contains('\0') {
            Ok(text)
        } else {
            Err(Malformed)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: Call<'_> = Call {
        destination: "org.freedesktop.DBus",
        path: "/org/freedesktop/DBus",
        interface: "org.freedesktop.DBus",
        member: "Hello",
    };

    #[test]
    fn hello_as_on_the_wire() {
        let golden = b"l\x01\0\x01\0\0\0\0\x01\0\0\0\x6d\0\0\0\
            \x01\x01o\0\x15\0\0\0/org/freedesktop/DBus\0\0\0\
            \x02\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0\
            \x03\x01s\0\x05\0\0\0Hello\0\0\0\
            \x06\x01s\0\x14\0\0\0org.freedesktop.DBus\0\0\0\0";
        assert_eq!(call(1, HELLO, "", &[]).unwrap(), golden);
    }

    #[test]
    fn an_array_s_length_leaves_out_its_first_padding() {
        let mut writer = Writer::default();
        writer.array(8, |elements| {
            elements.align(8);
            elements.string("a");
        });
        assert_eq!(writer.into_bytes(), b"\x06\0\0\0\0\0\0\0\x01\0\0\0a\0");
    }

    #[test]
    fn what_is_written_is_read() {
        let mut body = Writer::default();
        body.string("ab");
        body.uint32(7);
        let bytes = call(9, HELLO, "su", &body.into_bytes()).unwrap();
        let message = parse(&bytes).unwrap();
        assert_eq!(message.kind, Kind::Call);
        assert_eq!(message.member.as_deref(), Some("Hello"));
        assert_eq!(message.signature, "su");
        let mut reader = Reader::new(&message.body);
        assert_eq!(
            (reader.string().unwrap(), reader.uint32().unwrap()),
            ("ab", 7)
        );
        assert_eq!(reader.uint32(), Err(Malformed));
    }

    #[test]
    fn lengths_are_bounded_before_anything_is_kept() {
        let mut fixed: [u8; FIXED] = *b"l\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0";
        assert_eq!(length(&fixed), Ok(16));
        fixed[7] = 0x7f;
        assert_eq!(length(&fixed), Err(Malformed));
        assert_eq!(
            length(b"B\x02\0\x01\0\0\0\0\x01\0\0\0\0\0\0\0"),
            Err(Malformed)
        );
    }

    proptest! {
        #[test]
        fn parse_is_total(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn a_changed_byte_never_panics(at in 0_usize..128, value: u8) {
            let mut bytes = call(1, HELLO, "", &[]).unwrap();
            let at = at % bytes.len();
            bytes[at] = value;
            if let Ok(message) = parse(&bytes) {
                prop_assert_eq!(message.body.len(), 0);
            }
        }
    }
}
