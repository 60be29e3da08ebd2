//! The form of the offset file: a `java.util.HashMap<byte[], byte[]>` in Java's serialization, as `FileOffsetBackingStore` writes and reads
//! it with object streams (Java Object Serialization Specification, chapter 6).
//!
//! Of that language it reads what such a map can be written with, and no more: one map of any capacity and load factor, arrays of
//! bytes, nulls, and references to what came earlier in the stream. Nothing is taken on trust: memory is used for what is there,
//! not for what a length claims.

use bytes::Bytes;

/// Begins every object stream: magic number and version.
const STREAM_HEADER: [u8; 4] = [0xac, 0xed, 0x00, 0x05];

const TC_NULL: u8 = 0x70;
const TC_REFERENCE: u8 = 0x71;
const TC_CLASSDESC: u8 = 0x72;
const TC_OBJECT: u8 = 0x73;
const TC_ARRAY: u8 = 0x75;
const TC_BLOCKDATA: u8 = 0x77;
const TC_ENDBLOCKDATA: u8 = 0x78;

/// The first handle; references count from it.
const BASE_HANDLE: u32 = 0x7e_0000;

/// What follows `TC_CLASSDESC` for `java.util.HashMap`: name, version 362498820763181265, flags (serializable, writes by itself), two fields
/// of primitive types, no annotation, no superclass. The same in all versions of Java since 1.2.
const HASH_MAP: &[u8] = b"\x00\x11java.util.HashMap\x05\x07\xda\xc1\xc3\x16\x60\xd1\x03\x00\x02\
    F\x00\x0aloadFactorI\x00\x09threshold\x78\x70";

/// What follows `TC_CLASSDESC` for `byte[]`.
const BYTE_ARRAY: &[u8] = b"\x00\x02[B\xac\xf3\x17\xf8\x06\x08\x54\xe0\x02\x00\x00\x78\x70";

/// Handle of the class `byte[]` in what is written here: behind the class of the map, and the map.
const WRITTEN_BYTE_ARRAY: u32 = BASE_HANDLE + 2;

/// Java's default, and the least capacity of its maps.
const LOAD_FACTOR: f32 = 0.75;
const LEAST_CAPACITY: usize = 16;

/// Why bytes are no such map.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("byte {at}: {reason}")]
pub struct MapError {
    /// How far it was good.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

/// An entry as it was written: Java allows both to be null.
pub type Entry = (Option<Bytes>, Option<Bytes>);

/// Reads a map. Entries come in the order of the file; of equal keys, which Java cannot tell to be equal, all are there. `max_bytes` bounds what
/// keys and values have together, since a reference may name a long array many times.
pub fn decode(file: &Bytes, max_bytes: usize) -> Result<Vec<Entry>, MapError> {
    let mut reader = Reader { file, at: 0, handles: Vec::new(), left: max_bytes };
    reader.require(&STREAM_HEADER, "no stream of serialized Java objects begins so")?;
    reader.map()
}

/// Writes a map as Java would.
pub fn encode<'a>(entries: impl ExactSizeIterator<Item = (&'a Bytes, &'a Bytes)>) -> Vec<u8> {
    let capacity = (entries.len() * 4 / 3 + 1).next_power_of_two().max(LEAST_CAPACITY);
    let mut out = STREAM_HEADER.to_vec();
    out.extend([TC_OBJECT, TC_CLASSDESC]);
    out.extend(HASH_MAP);
    out.extend(LOAD_FACTOR.to_be_bytes());
    out.extend(int(capacity / 4 * 3));
    out.extend([TC_BLOCKDATA, 8]);
    out.extend(int(capacity));
    out.extend(int(entries.len()));
    let mut class_is_written = false;
    for array in entries.flat_map(|(key, value)| [key, value]) {
        out.push(TC_ARRAY);
        if class_is_written {
            out.push(TC_REFERENCE);
            out.extend(WRITTEN_BYTE_ARRAY.to_be_bytes());
        } else {
            out.push(TC_CLASSDESC);
            out.extend(BYTE_ARRAY);
            class_is_written = true;
        }
        out.extend(int(array.len()));
        out.extend(array.as_ref());
    }
    out.push(TC_ENDBLOCKDATA);
    out
}

/// A length as Java's `int`. The store bounds the whole file far below its end.
fn int(length: usize) -> [u8; 4] {
    i32::try_from(length).unwrap_or(i32::MAX).to_be_bytes()
}

/// What a reference may name, in the order of the stream.
#[derive(Clone)]
enum Handle {
    MapClass,
    Map,
    ArrayClass,
    Array(Bytes),
}

struct Reader<'a> {
    file: &'a Bytes,
    at: usize,
    handles: Vec<Handle>,
    /// Bytes that keys and values may still have.
    left: usize,
}

impl Reader<'_> {
    fn map(&mut self) -> Result<Vec<Entry>, MapError> {
        self.require(&[TC_OBJECT], "there should be an object: a java.util.HashMap")?;
        self.require(&[TC_CLASSDESC], "the class of the object should be described here")?;
        self.require(HASH_MAP, "the object is no java.util.HashMap as Java writes it")?;
        self.handles.extend([Handle::MapClass, Handle::Map]);
        let at = self.at;
        let load_factor = f32::from_be_bytes(self.take()?);
        if load_factor.is_nan() || load_factor <= 0.0 {
            return Err(error(at, format!("the load factor of the map is {load_factor}")));
        }
        // The threshold, and further down the capacity: Java ignores them as well.
        self.take::<4>()?;
        self.require(&[TC_BLOCKDATA, 8], "the size of the map should stand here")?;
        self.take::<4>()?;
        let at = self.at;
        let size = i32::from_be_bytes(self.take()?);
        let size = u32::try_from(size).map_err(|_| error(at, format!("the size of the map is {size}")))?;
        let mut entries = Vec::new();
        for _ in 0..size {
            entries.push((self.array()?, self.array()?));
        }
        self.require(&[TC_ENDBLOCKDATA], "the map should end here, after the number of entries that it claims")?;
        match self.file.len() - self.at {
            0 => Ok(entries),
            rest => Err(error(self.at, format!("{rest} bytes follow the end of the map"))),
        }
    }

    /// A key or a value.
    fn array(&mut self) -> Result<Option<Bytes>, MapError> {
        let at = self.at;
        let array = match self.take()? {
            [TC_NULL] => return Ok(None),
            [TC_REFERENCE] => match self.reference()? {
                Handle::Array(array) => array,
                _ => return Err(error(at, "a key or value should be an array of bytes, and is something else")),
            },
            [TC_ARRAY] => self.new_array()?,
            [other] => return Err(error(at, format!("a key or value should begin here, and there is {other:#04x}"))),
        };
        match self.left.checked_sub(array.len()) {
            Some(left) => self.left = left,
            None => return Err(error(at, "keys and values are longer together than an offset file may be")),
        }
        Ok(Some(array))
    }

    fn new_array(&mut self) -> Result<Bytes, MapError> {
        let at = self.at;
        match self.take()? {
            [TC_CLASSDESC] => {
                self.require(BYTE_ARRAY, "a key or value is of another class than byte[]")?;
                self.handles.push(Handle::ArrayClass);
            }
            [TC_REFERENCE] => {
                if !matches!(self.reference()?, Handle::ArrayClass) {
                    return Err(error(at, "the class of an array should be byte[]"));
                }
            }
            [other] => return Err(error(at, format!("the class of an array should stand here: {other:#04x}"))),
        }
        let at = self.at;
        let length = i32::from_be_bytes(self.take()?);
        let length = usize::try_from(length).map_err(|_| error(at, format!("an array has {length} bytes")))?;
        let end = self.at.checked_add(length).filter(|&end| end <= self.file.len());
        let end = end.ok_or_else(|| {
            error(
                at,
                format!("an array should have {length} bytes, and the file has {} more", self.file.len() - self.at),
            )
        })?;
        let array = self.file.slice(self.at..end);
        self.at = end;
        self.handles.push(Handle::Array(array.clone()));
        Ok(array)
    }

    fn reference(&mut self) -> Result<Handle, MapError> {
        let at = self.at;
        let handle = u32::from_be_bytes(self.take()?);
        let index = handle.checked_sub(BASE_HANDLE).and_then(|index| usize::try_from(index).ok());
        let found = index.and_then(|index| self.handles.get(index)).cloned();
        found.ok_or_else(|| error(at, format!("a reference to {handle:#x}, which has not come yet")))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], MapError> {
        let bytes = self.file.get(self.at..).and_then(|rest| rest.first_chunk::<N>());
        let bytes = bytes.ok_or_else(|| error(self.file.len(), "the file ends here, and the map does not"))?;
        self.at += N;
        Ok(*bytes)
    }

    fn require(&mut self, wanted: &[u8], otherwise: &str) -> Result<(), MapError> {
        let rest = &self.file[self.at..];
        if rest.starts_with(wanted) {
            self.at += wanted.len();
            return Ok(());
        }
        let good = rest.iter().zip(wanted).take_while(|(found, wanted)| found == wanted).count();
        let at = self.at + good;
        let reason = if good == rest.len() { "the file ends here, and the map does not" } else { otherwise };
        Err(error(at, reason))
    }
}

fn error(at: usize, reason: impl Into<String>) -> MapError {
    MapError { at, reason: reason.into() }
}
