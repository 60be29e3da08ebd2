//! The bytes of a datagram: a version byte, a clear header of fixed width, and what was sealed. Read from slices, under bounds;
//! nothing is allocated for a length that a datagram names.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use bincode::error::DecodeError;
use bincode::{Decode, Encode};

/// The version byte. It changes with the form of the frame, with how keys are made, and with chitchat's own encoding.
const VERSION: u8 = 1;
/// Bytes of the header behind the version byte: cluster, key, session, counter, part, length.
const FIELDS_BYTES: usize = 8 + 4 + 16 + 8 + 1 + 8;
/// Bytes in the clear before what was sealed.
const CLEAR_BYTES: usize = 1 + FIELDS_BYTES;
/// Bytes that sealing adds: the tag of Poly1305.
const SEAL_BYTES: usize = 16;
/// Bytes of a datagram: what UDP over IPv4 can carry.
pub const DATAGRAM_MAX_BYTES: usize = 65_507;
/// Bytes that one frame can carry.
pub const PLAIN_MAX_BYTES: usize = DATAGRAM_MAX_BYTES - CLEAR_BYTES - SEAL_BYTES;
/// Bytes of a whole message: what chitchat puts into a datagram at most. A message that one frame cannot carry goes as two.
pub const MESSAGE_MAX_BYTES: usize = DATAGRAM_MAX_BYTES;

const CONFIG: Configuration<LittleEndian, Fixint, Limit<FIELDS_BYTES>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<FIELDS_BYTES>();

/// Tells the datagrams of one cluster from those of another; public.
pub type ClusterTag = [u8; 8];
/// Says which key sealed a frame; public.
pub type KeyId = [u8; 4];
/// Random, one for each start of a process.
pub type Session = [u8; 16];

/// Why bytes are no frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("it is longer than a datagram can be")]
    Oversized,
    #[error("it ends too early")]
    Truncated,
    #[error("version {0} is unknown, this program writes {VERSION}")]
    Version(u8),
    #[error("it is no frame")]
    Malformed,
}

/// Which part of a message a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Whole,
    First,
    /// Follows the first in the next frame of the session.
    Second,
}

/// What stands in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    pub cluster: ClusterTag,
    pub key: KeyId,
    pub session: Session,
    /// Rises with each frame of a session.
    pub counter: u64,
    pub part: Part,
}

#[derive(Encode, Decode)]
struct Fields {
    cluster: ClusterTag,
    key: KeyId,
    session: Session,
    counter: u64,
    part: u8,
    sealed_bytes: u64,
}

/// A frame that was read: where its bytes are.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    pub header: Header,
    /// The whole clear part, which the seal covers as well.
    pub clear: &'a [u8],
    pub sealed: &'a [u8],
}

/// The clear part of a frame that will carry `plain_bytes` bytes, at most [`PLAIN_MAX_BYTES`].
pub fn clear(header: &Header, plain_bytes: usize) -> Vec<u8> {
    let fields = Fields {
        cluster: header.cluster,
        key: header.key,
        session: header.session,
        counter: header.counter,
        part: header.part as u8,
        sealed_bytes: (plain_bytes + SEAL_BYTES) as u64,
    };
    let mut bytes = Vec::with_capacity(CLEAR_BYTES + plain_bytes + SEAL_BYTES);
    bytes.push(VERSION);
    // A vector takes all bytes, and all fields are plain numbers.
    bincode::encode_into_std_write(fields, &mut bytes, CONFIG).expect("encoding into a vector cannot fail");
    bytes
}

/// Reads a datagram. Nothing may follow the frame.
pub fn read(datagram: &[u8]) -> Result<Frame<'_>, WireError> {
    if datagram.len() > DATAGRAM_MAX_BYTES {
        return Err(WireError::Oversized);
    }
    let (&version, rest) = datagram.split_first().ok_or(WireError::Truncated)?;
    if version != VERSION {
        return Err(WireError::Version(version));
    }
    let (fields, _): (Fields, usize) = bincode::decode_from_slice(rest, CONFIG).map_err(|error| match error {
        DecodeError::UnexpectedEnd { .. } => WireError::Truncated,
        _ => WireError::Malformed,
    })?;
    let (clear, sealed) = datagram.split_at_checked(CLEAR_BYTES).ok_or(WireError::Truncated)?;
    let part = match fields.part {
        0 => Part::Whole,
        1 => Part::First,
        2 => Part::Second,
        _ => return Err(WireError::Malformed),
    };
    let said = usize::try_from(fields.sealed_bytes).unwrap_or(usize::MAX);
    if !(SEAL_BYTES..=PLAIN_MAX_BYTES + SEAL_BYTES).contains(&said) || said < sealed.len() {
        return Err(WireError::Malformed);
    }
    if said > sealed.len() {
        return Err(WireError::Truncated);
    }
    let Fields { cluster, key, session, counter, .. } = fields;
    Ok(Frame { header: Header { cluster, key, session, counter, part }, clear, sealed })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: Header =
        Header { cluster: [1; 8], key: [2; 4], session: [3; 16], counter: 0x0102_0304, part: Part::Second };

    fn frame(plain_bytes: usize) -> Vec<u8> {
        let mut bytes = clear(&HEADER, plain_bytes);
        bytes.resize(CLEAR_BYTES + plain_bytes + SEAL_BYTES, 7);
        bytes
    }

    #[test]
    fn the_bytes_are_these() {
        let mut expected = vec![1];
        expected.extend([[1; 8].as_slice(), &[2; 4], &[3; 16], &[4, 3, 2, 1, 0, 0, 0, 0, 2]].concat());
        expected.extend([18, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(clear(&HEADER, 2), expected);
        let bytes = frame(2);
        assert_eq!(read(&bytes), Ok(Frame { header: HEADER, clear: &bytes[..CLEAR_BYTES], sealed: &[7; 18] }));
    }

    #[test]
    fn what_is_no_frame_is_refused_as_what_it_is() {
        let good = frame(100);
        for length in 0..good.len() {
            assert_eq!(read(&good[..length]), Err(WireError::Truncated), "{length}");
        }
        let changed = |at: usize, bytes: &[u8]| {
            let mut frame = good.clone();
            frame[at..at + bytes.len()].copy_from_slice(bytes);
            frame
        };
        assert_eq!(read(&[good.clone(), vec![0]].concat()), Err(WireError::Malformed), "a byte behind the frame");
        assert_eq!(read(&changed(0, &[0])), Err(WireError::Version(0)));
        assert_eq!(read(&changed(0, &[255])), Err(WireError::Version(255)));
        assert_eq!(read(&changed(37, &[3])), Err(WireError::Malformed), "no such part");
        for length in [0, 15, PLAIN_MAX_BYTES as u64 + 17, 1 << 40, u64::MAX] {
            assert_eq!(read(&changed(38, &length.to_le_bytes())), Err(WireError::Malformed), "{length}");
        }
    }

    #[test]
    fn the_largest_frame_is_a_datagram() {
        let largest = frame(PLAIN_MAX_BYTES);
        assert_eq!(largest.len(), DATAGRAM_MAX_BYTES);
        assert!(read(&largest).is_ok());
        assert_eq!(read(&[largest, vec![0]].concat()), Err(WireError::Oversized));
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes);
            let _ = read(&[&[VERSION], &bytes[..]].concat());
        }
    }
}
