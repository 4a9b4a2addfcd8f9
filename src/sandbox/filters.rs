//! [pure] The proven filter programs on their way into a sandbox: a flat, length-checked encoding.

/// Bytes of one BPF instruction: `struct sock_filter`.
const INSTRUCTION: usize = 8;
/// Most instructions of one program: BPF_MAXINSNS.
const MOST: usize = 4096;

/// Programs as the kernel reads them, each a whole number of instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filters {
    /// The gateway's own filter.
    pub gateway: Vec<u8>,
    /// The filter of init and job.
    pub job: Vec<u8>,
}

impl Filters {
    /// Each program behind its length in bytes, little-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + self.gateway.len() + self.job.len());
        for program in [&self.gateway, &self.job] {
            bytes.extend((program.len() as u32).to_le_bytes());
            bytes.extend(program);
        }
        bytes
    }

    /// The reverse; None for anything [`Filters::encode`] does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (gateway, rest) = program(bytes)?;
        let (job, rest) = program(rest)?;
        rest.is_empty().then(|| Self {
            gateway: gateway.to_vec(),
            job: job.to_vec(),
        })
    }
}

fn program(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let whole = length > 0 && length % INSTRUCTION == 0 && length <= MOST * INSTRUCTION;
    if whole {
        rest.split_at_checked(length)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip_and_every_truncation_refused() {
        let filters = Filters {
            gateway: vec![1; 8],
            job: vec![2; 24],
        };
        let bytes = filters.encode();
        assert_eq!(Filters::decode(&bytes), Some(filters));
        for cut in 0..bytes.len() {
            assert_eq!(Filters::decode(&bytes[..cut]), None, "cut at {cut}");
        }
        assert_eq!(
            Filters::decode(&[0; 8]),
            None,
            "an empty program would allow everything"
        );
    }
}
