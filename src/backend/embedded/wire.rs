//! The bytes of what is stored: rows of records and small values, each behind a version byte, read under bounds.
//!
//! A row is one batch of one partition: a header of fixed width, then the records one behind the other. Offsets and timestamps of
//! records are differences to the row's. Whatever the bytes are, reading them gives values or a [`WireError`]: nothing is
//! allocated for a length before that many bytes were seen.

use bincode::config::{Configuration, Fixint, Limit, LittleEndian, Varint};
use bincode::{BorrowDecode, Decode, Encode};
use bytes::Bytes;
use bytestring::ByteString;

use crate::backend::Header;

/// The version byte of rows and values.
const VERSION: u8 = 1;
/// Bytes that one record may have: keys, values and headers together, whatever `message.max.bytes` says.
pub(super) const MAX_RECORD_BYTES: usize = 64 << 20;
/// Bytes that one small value may have: the settings of a topic.
const MAX_VALUE_BYTES: usize = 1 << 20;
/// Bytes of a row's header behind the version byte.
const HEADER_BYTES: usize = 44;
/// Where the records of a row begin.
const RECORDS_AT: usize = 1 + HEADER_BYTES;
/// Where the bytes begin that the checksum covers: behind the version and the checksum itself.
const CHECKED_AT: usize = 5;
/// Bytes at which a row is full. The store keeps a row in a run of pages of the next power of two, so it stays below one with what the
/// store adds.
pub(super) const ROW_BYTES: usize = (128 << 10) - 256;

const FIXED: Configuration<LittleEndian, Fixint, Limit<HEADER_BYTES>> =
    bincode::config::standard().with_fixed_int_encoding().with_limit::<HEADER_BYTES>();
const RECORD: Configuration<LittleEndian, Varint, Limit<{ MAX_RECORD_BYTES + 64 }>> =
    bincode::config::standard().with_limit::<{ MAX_RECORD_BYTES + 64 }>();
const VALUE: Configuration<LittleEndian, Varint, Limit<MAX_VALUE_BYTES>> =
    bincode::config::standard().with_limit::<MAX_VALUE_BYTES>();

/// Bytes that are not what this version writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("version {0} is unknown, this program writes {VERSION}")]
    Version(u8),
    #[error("it has {0} bytes, too few")]
    Short(usize),
    #[error("the checksum does not match")]
    Checksum,
    #[error("{0}")]
    Malformed(String),
}

/// What a row says of its records.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct RowHeader {
    checksum: u32,
    /// How many records, at least one.
    pub count: u32,
    /// The offset of the last record, less the row's.
    pub last_delta: u32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    /// The transaction that all records belong to; 0: none.
    pub transaction: u64,
    /// Milliseconds since 1970 from which on compaction may remove tombstones; 0: not decided yet.
    pub delete_horizon: i64,
}

/// A record without its headers, which stand behind it.
#[derive(Encode, BorrowDecode)]
struct WireRecord<'a> {
    offset_delta: u32,
    timestamp_delta: i64,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    headers: u32,
}

#[derive(Encode, BorrowDecode)]
struct WireHeader<'a> {
    name: &'a [u8],
    value: Option<&'a [u8]>,
}

/// A record of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RowRecord {
    pub offset: i64,
    pub timestamp: i64,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// Collects records of a row.
#[derive(Debug, Default)]
pub(super) struct RowBuilder {
    bytes: Vec<u8>,
    count: u32,
    last_delta: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

fn put<T: Encode>(bytes: &mut Vec<u8>, value: T) {
    // A vector takes all bytes, and these types hold nothing that cannot be encoded.
    bincode::encode_into_std_write(value, bytes, RECORD).expect("encoding into a vector cannot fail");
}

impl RowBuilder {
    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of its records.
    pub(super) fn byte_count(&self) -> usize {
        self.bytes.len()
    }

    /// How many records it has.
    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// Whether it has its size, so that the next record goes into a new one.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() >= ROW_BYTES
    }

    /// Whether a record of `size` bytes brings it over its size.
    pub(super) fn is_full_with(&self, size: usize) -> bool {
        // What lengths and differences take beside the bytes themselves, roughly; a row that is a little larger is no fault.
        const FRAMING: usize = 24;
        self.count > 0 && self.bytes.len() + size + FRAMING > ROW_BYTES
    }

    /// Appends a record, `delta` behind the row's offset.
    pub(super) fn push(
        &mut self,
        delta: u32,
        timestamp: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header],
    ) {
        if self.count == 0 {
            self.bytes.resize(RECORDS_AT, 0);
            (self.base_timestamp, self.max_timestamp) = (timestamp, timestamp);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_delta = delta;
        self.count += 1;
        let timestamp_delta = timestamp.wrapping_sub(self.base_timestamp);
        let record = WireRecord { offset_delta: delta, timestamp_delta, key, value, headers: headers.len() as u32 };
        put(&mut self.bytes, record);
        for (name, value) in headers {
            put(&mut self.bytes, WireHeader { name: name.as_bytes(), value: value.as_deref() });
        }
    }

    /// The bytes of the row.
    pub(super) fn finish(mut self, transaction: u64, delete_horizon: i64) -> Bytes {
        let mut header = RowHeader {
            checksum: 0,
            count: self.count,
            last_delta: self.last_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            transaction,
            delete_horizon,
        };
        self.bytes[0] = VERSION;
        put_header(&mut self.bytes, &header);
        header.checksum = crc32fast::hash(&self.bytes[CHECKED_AT..]);
        put_header(&mut self.bytes, &header);
        Bytes::from(self.bytes)
    }
}

fn put_header(bytes: &mut [u8], header: &RowHeader) {
    // The integers of the header have exactly that many bytes, which a test holds it to.
    bincode::encode_into_slice(header, &mut bytes[1..RECORDS_AT], FIXED).expect("the header has its fixed width");
}

/// A row of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// The offset that its records count from.
    pub base: i64,
    pub header: RowHeader,
    pub bytes: Bytes,
}

impl Row {
    /// Checks version, checksum and header; the records are read by [`Row::records`].
    pub(super) fn parse(base: i64, bytes: Bytes) -> Result<Row, WireError> {
        let row = Row::trusted(base, bytes)?;
        match crc32fast::hash(&row.bytes[CHECKED_AT..]) == row.header.checksum {
            true => Ok(row),
            false => Err(WireError::Checksum),
        }
    }

    /// A row whose bytes this process made a moment ago: their checksum is not looked at.
    pub(super) fn trusted(base: i64, bytes: Bytes) -> Result<Row, WireError> {
        let header = header_of(&bytes)?;
        if base.checked_add(i64::from(header.last_delta) + 1).is_none() {
            return Err(WireError::Malformed(format!("its offsets begin at {base}")));
        }
        Ok(Row { base, header, bytes })
    }

    /// The offset behind its last record.
    pub(super) fn next(&self) -> i64 {
        self.base + i64::from(self.header.last_delta) + 1
    }

    /// Its records, in order.
    pub(super) fn records(&self) -> Records {
        Records { row: self.clone(), at: RECORDS_AT, left: self.header.count }
    }
}

/// Version and header of a row alone.
pub(super) fn header_of(bytes: &[u8]) -> Result<RowHeader, WireError> {
    match bytes.first() {
        None => return Err(WireError::Short(0)),
        Some(&VERSION) => {}
        Some(&version) => return Err(WireError::Version(version)),
    }
    let header = bytes.get(1..RECORDS_AT).ok_or(WireError::Short(bytes.len()))?;
    let (header, _): (RowHeader, usize) =
        bincode::decode_from_slice(header, FIXED).map_err(|error| WireError::Malformed(error.to_string()))?;
    Ok(header)
}

/// Reads the records of a row.
#[derive(Debug)]
pub(super) struct Records {
    row: Row,
    at: usize,
    left: u32,
}

impl Records {
    /// Whether all were read.
    pub(super) fn is_done(&self) -> bool {
        self.left == 0
    }

    /// The offset behind the last record of the row.
    pub(super) fn next_offset(&self) -> i64 {
        self.row.next()
    }

    /// The next record. After an error nothing more can be read.
    #[allow(clippy::should_implement_trait)] // an error ends it, and callers branch on that
    pub(super) fn next(&mut self) -> Result<Option<RowRecord>, WireError> {
        if self.left == 0 {
            return Ok(None);
        }
        let record = self.read_record()?;
        self.left -= 1;
        Ok(Some(record))
    }

    fn read<'a, T: BorrowDecode<'a, ()>>(bytes: &'a [u8], at: &mut usize) -> Result<T, WireError> {
        let malformed = |at: usize, error| WireError::Malformed(format!("at byte {at}: {error}"));
        let rest = bytes.get(*at..).unwrap_or_default();
        let (value, length) = bincode::borrow_decode_from_slice(rest, RECORD).map_err(|error| malformed(*at, error))?;
        *at += length;
        Ok(value)
    }

    fn read_record(&mut self) -> Result<RowRecord, WireError> {
        let bytes = &self.row.bytes;
        let mut at = self.at;
        let record: WireRecord = Self::read(bytes, &mut at)?;
        if record.offset_delta > self.row.header.last_delta {
            let (delta, last) = (record.offset_delta, self.row.header.last_delta);
            return Err(WireError::Malformed(format!("record {delta} behind the last, {last}")));
        }
        let mut headers = Vec::new();
        for _ in 0..record.headers {
            let header: WireHeader = Self::read(bytes, &mut at)?;
            let name = ByteString::try_from(bytes.slice_ref(header.name))
                .map_err(|error| WireError::Malformed(format!("at byte {at}: the name of a header: {error}")))?;
            headers.push((name, header.value.map(|value| bytes.slice_ref(value))));
        }
        let read = RowRecord {
            offset: self.row.base + i64::from(record.offset_delta),
            timestamp: self.row.header.base_timestamp.wrapping_add(record.timestamp_delta),
            key: record.key.map(|key| bytes.slice_ref(key)),
            value: record.value.map(|value| bytes.slice_ref(value)),
            headers,
        };
        self.at = at;
        Ok(read)
    }
}

/// A topic, as it is stored under its name.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct TopicValue {
    pub id: u64,
    pub partitions: u32,
    pub config: Vec<(String, String)>,
}

/// A partition.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct PartitionValue {
    pub start: i64,
    pub end: i64,
    pub bytes: u64,
    pub cleaned: i64,
    pub clean_bytes: u64,
}

/// A transaction in a partition that is open or was aborted.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub(super) struct TransactionValue {
    pub first: i64,
    /// The offset of the marker that aborted it; `None` while it is open.
    pub aborted_at: Option<i64>,
}

/// Bytes of a small value.
pub(super) fn encode_value<T: Encode>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    put(&mut bytes, value);
    bytes
}

/// A small value from its bytes, all of them.
pub(super) fn decode_value<T: Decode<()>>(bytes: &[u8]) -> Result<T, WireError> {
    match bytes.split_first() {
        None => Err(WireError::Short(0)),
        Some((&VERSION, rest)) => {
            let (value, length) = bincode::decode_from_slice(rest, VALUE)
                .map_err(|error: bincode::error::DecodeError| WireError::Malformed(error.to_string()))?;
            match length == rest.len() {
                true => Ok(value),
                false => Err(WireError::Malformed(format!("{} bytes too many", rest.len() - length))),
            }
        }
        Some((&version, _)) => Err(WireError::Version(version)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn build(records: &[RowRecord]) -> Bytes {
        let mut builder = RowBuilder::default();
        for record in records {
            let (key, value) = (record.key.as_deref(), record.value.as_deref());
            builder.push(record.offset as u32, record.timestamp, key, value, &record.headers);
        }
        builder.finish(7, 0)
    }

    fn read_all(row: &Row) -> Result<Vec<RowRecord>, WireError> {
        let (mut records, mut all) = (row.records(), Vec::new());
        while let Some(record) = records.next()? {
            all.push(record);
        }
        Ok(all)
    }

    fn bytes() -> impl Strategy<Value = Option<Bytes>> {
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from))
    }

    fn records() -> impl Strategy<Value = Vec<RowRecord>> {
        let headers = proptest::collection::vec(("[a-zü]{0,4}".prop_map(ByteString::from), bytes()), 0..3);
        let record = (0..5u32, any::<i64>(), bytes(), bytes(), headers);
        proptest::collection::vec(record, 1..20).prop_map(|records| {
            let mut offset = 0;
            let place = |(gap, timestamp, key, value, headers)| {
                let record = RowRecord { offset: offset + i64::from(gap), timestamp, key, value, headers };
                offset = record.offset + 1;
                record
            };
            records.into_iter().map(place).collect()
        })
    }

    proptest! {
        #[test]
        fn rows_come_back(records in records()) {
            let row = Row::parse(0, build(&records)).unwrap();
            prop_assert_eq!(row.next(), records.last().unwrap().offset + 1);
            prop_assert_eq!(row.header.max_timestamp, records.iter().map(|record| record.timestamp).max().unwrap());
            prop_assert_eq!(read_all(&row).unwrap(), records);
        }

        #[test]
        fn a_changed_byte_is_noticed_and_even_without_a_checksum_gives_no_panic(
            records in records(), at in any::<prop::sample::Index>(), flip in 1..=255u8, cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = build(&records).to_vec();
            let (at, cut) = (at.index(bytes.len()), cut.index(bytes.len()));
            prop_assert!(Row::parse(0, Bytes::copy_from_slice(&bytes[..cut])).is_err());
            bytes[at] ^= flip;
            let bytes = Bytes::from(bytes);
            prop_assert!(Row::parse(0, bytes.clone()).is_err());
            for bytes in [bytes.clone(), bytes.slice(..cut)] {
                if let Ok(row) = Row::trusted(0, bytes) {
                    let _ = read_all(&row);
                }
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes = [&[VERSION][..], &bytes].concat();
            let _ = decode_value::<TopicValue>(&bytes);
            let _ = decode_value::<TransactionValue>(&bytes);
            if let Ok(row) = Row::trusted(i64::MAX / 2, Bytes::from(bytes)) {
                let _ = read_all(&row);
            }
        }
    }

    #[test]
    fn lengths_without_bytes_allocate_nothing() {
        let mut builder = RowBuilder::default();
        builder.push(0, 0, None, None, &[]);
        let mut bytes = builder.finish(0, 0).to_vec();
        bytes.truncate(RECORDS_AT);
        // A key of 2^60 bytes, then a record that claims four billion headers.
        let hostile = [
            [&[0, 0, 1, 253][..], &(1u64 << 60).to_le_bytes()].concat(),
            [&[0, 0, 0, 0, 252][..], &u32::MAX.to_le_bytes()].concat(),
        ];
        for record in hostile {
            let row = Row::trusted(0, Bytes::from([&bytes[..], &record].concat())).unwrap();
            assert!(matches!(read_all(&row), Err(WireError::Malformed(_))));
        }
        let value = [&[VERSION, 1, 1, 253][..], &(1u64 << 60).to_le_bytes()].concat();
        assert!(matches!(decode_value::<TopicValue>(&value), Err(WireError::Malformed(_))));
    }

    #[test]
    fn other_versions_and_trailing_bytes_are_named() {
        let value = TransactionValue { first: 3, aborted_at: Some(9) };
        let mut bytes = encode_value(&value);
        assert_eq!(decode_value::<TransactionValue>(&bytes).unwrap(), value);
        bytes.push(0);
        assert!(matches!(decode_value::<TransactionValue>(&bytes), Err(WireError::Malformed(_))));
        bytes[0] = 2;
        assert_eq!(decode_value::<TransactionValue>(&bytes), Err(WireError::Version(2)));
        assert_eq!(Row::parse(0, Bytes::from_static(&[9])), Err(WireError::Version(9)));
        assert_eq!(Row::parse(0, Bytes::from_static(&[1])), Err(WireError::Short(1)));
    }
}
