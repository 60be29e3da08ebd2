//! Which partition a key belongs to: Java's `BuiltInPartitioner.partitionForKey`, so that a keyed record lands where the
//! Java client puts it.

/// The seed of Java's `Utils.murmur2`.
const SEED: u32 = 0x9747_b28c;
/// The multiplier of murmur2.
const M: u32 = 0x5bd1_e995;

/// Java's `org.apache.kafka.common.utils.Utils.murmur2`, with its sign.
pub fn murmur2(key: &[u8]) -> i32 {
    // Java's length is an int; longer keys do not exist, the protocol's lengths are ints as well.
    let mut hash = SEED ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    (hash ^ (hash >> 15)) as i32
}

/// The partition of a key in a topic of `partitions` partitions; 0 where there are none.
pub fn partition_for_key(key: &[u8], partitions: i32) -> i32 {
    // Java makes the hash positive by dropping the sign bit, not by its absolute value.
    (murmur2(key) & i32::MAX) % partitions.max(1)
}
