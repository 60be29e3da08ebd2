//! Seals messages into frames and opens frames: XChaCha20-Poly1305 with the keys of the cluster. The nonce is the session and the
//! counter, so none is used twice, and the clear header is covered by the seal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use anyhow::Context;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD as BASE64;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use hkdf::Hkdf;
use sha2::Sha256;

use super::replay::Windows;
use super::wire::{
    self, ClusterTag, Frame, Header, KeyId, MESSAGE_MAX_BYTES, PLAIN_MAX_BYTES, Part, Session, WireError,
};

/// Keys that are accepted at a time: the newest, and the one before, since workers do not learn of a new one at the same moment.
pub const KEYS_MAX: usize = 2;
/// First halves of messages that wait for the second, each of another session. With [`MESSAGE_MAX_BYTES`] this bounds their memory to 1 MB.
const HALVES_MAX: usize = 16;

struct Key {
    id: KeyId,
    /// Wipes its bytes when it is dropped.
    cipher: XChaCha20Poly1305,
}

/// The keys of a cluster. The newest seals, all are accepted. They are never shown.
#[derive(Clone)]
pub struct Keys {
    /// Newest first, at least one.
    keys: Vec<Arc<Key>>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

impl Keys {
    /// One key, by HKDF-SHA256. Workers with the same secret and group id have the same key. The secret has to be one that nobody can
    /// guess: this is no password hash.
    pub fn from_secret(secret: &str, group_id: &str) -> Self {
        let hkdf = Hkdf::<Sha256>::new(Some(b"connect-node gossip key v1"), secret.as_bytes());
        let mut bytes = chacha20poly1305::Key::default();
        let mut id = KeyId::default();
        expand(&hkdf, b"seal", group_id, &mut bytes);
        expand(&hkdf, b"id", group_id, &mut id);
        let cipher = XChaCha20Poly1305::new(&bytes);
        wipe(&mut bytes);
        Keys { keys: vec![Arc::new(Key { id, cipher })] }
    }

    /// This key as the newest, with the newest of `older` still accepted.
    pub fn replacing(mut self, older: &Keys) -> Self {
        let own: Vec<KeyId> = self.keys.iter().map(|key| key.id).collect();
        self.keys.extend(older.keys.iter().filter(|key| !own.contains(&key.id)).cloned());
        self.keys.truncate(KEYS_MAX);
        self
    }
}

/// HKDF-Expand. Outputs of a purpose and a group say nothing of those of others.
fn expand(hkdf: &Hkdf<Sha256>, purpose: &[u8], group_id: &str, out: &mut [u8]) {
    hkdf.expand_multi_info(&[purpose, b"\0", group_id.as_bytes()], out)
        .expect("HKDF gives up to 8160 bytes, and these are few");
}

/// Best effort: the cipher has its own copy, which it wipes itself.
fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// The public tag of a cluster.
fn cluster_tag(group_id: &str) -> ClusterTag {
    let mut tag = ClusterTag::default();
    expand(&Hkdf::new(Some(b"connect-node gossip cluster v1"), group_id.as_bytes()), b"tag", group_id, &mut tag);
    tag
}

/// Why a datagram was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than a datagram of ours can be.
    Oversized,
    /// Shorter than its header or its own length.
    Truncated,
    /// A version that this program does not know.
    ForeignVersion(u8),
    /// No frame at all.
    Malformed,
    /// Of a cluster with another group id.
    ForeignCluster,
    /// Of this cluster, sealed with a key that is not ours.
    WrongKey,
    /// The seal is broken: who made it has no key, or it was changed on the way.
    Forged,
    /// Seen before, or too old to know.
    Replayed,
    /// Sent by this process: a seed is another name for it, or somebody throws them back.
    Own,
}

impl From<WireError> for Refusal {
    fn from(error: WireError) -> Self {
        match error {
            WireError::Oversized => Refusal::Oversized,
            WireError::Truncated => Refusal::Truncated,
            WireError::Version(version) => Refusal::ForeignVersion(version),
            WireError::Malformed => Refusal::Malformed,
        }
    }
}

/// What a process seals with. One session for each, from the system's source of random bytes.
#[derive(Debug)]
pub struct Seal {
    cluster: ClusterTag,
    session: Session,
    counter: AtomicU64,
    keys: RwLock<Keys>,
}

impl Seal {
    pub fn new(group_id: &str, keys: Keys) -> anyhow::Result<Self> {
        let cluster = cluster_tag(group_id);
        Ok(Seal { cluster, session: random()?, counter: AtomicU64::new(1), keys: RwLock::new(keys) })
    }

    pub fn set_keys(&self, keys: Keys) {
        // Keys are replaced in one step, so a lock that was poisoned holds whole ones.
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys;
    }

    fn keys(&self) -> Keys {
        self.keys.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The frames of a message, one or two. `None`: it has more than [`MESSAGE_MAX_BYTES`].
    pub fn seal(&self, message: &[u8]) -> Option<Vec<Vec<u8>>> {
        if message.len() > MESSAGE_MAX_BYTES {
            return None;
        }
        if message.len() <= PLAIN_MAX_BYTES {
            let counter = self.counter.fetch_add(1, Ordering::Relaxed);
            return Some(vec![self.frame(Part::Whole, counter, message)?]);
        }
        let (first, second) = message.split_at(message.len() / 2);
        let counter = self.counter.fetch_add(2, Ordering::Relaxed);
        Some(vec![self.frame(Part::First, counter, first)?, self.frame(Part::Second, counter + 1, second)?])
    }

    fn frame(&self, part: Part, counter: u64, plain: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys();
        let newest = keys.keys.first()?;
        let header = Header { cluster: self.cluster, key: newest.id, session: self.session, counter, part };
        let mut bytes = wire::clear(&header, plain.len());
        let payload = Payload { msg: plain, aad: &bytes };
        let sealed = newest.cipher.encrypt(&nonce(&header), payload).ok()?;
        bytes.extend(sealed);
        Some(bytes)
    }
}

fn nonce(header: &Header) -> XNonce {
    let mut nonce = XNonce::default();
    nonce[..16].copy_from_slice(&header.session);
    nonce[16..].copy_from_slice(&header.counter.to_le_bytes());
    nonce
}

/// 32 bytes from the system's source of random bytes, in base64: a secret that nobody can guess.
pub fn random_secret() -> anyhow::Result<String> {
    Ok(BASE64.encode(random::<32>()?))
}

fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    let mut filled = 0;
    while filled < N {
        match rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty()) {
            Ok(count) => filled += count,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("cannot get random bytes from the system"),
        }
    }
    Ok(bytes)
}

/// Opens frames. It remembers which ones it has seen, and the halves of messages.
pub struct Opener {
    seal: Arc<Seal>,
    windows: Windows,
    halves: VecDeque<(Session, u64, Vec<u8>)>,
}

impl Opener {
    pub fn new(seal: Arc<Seal>) -> Self {
        Opener { seal, windows: Windows::default(), halves: VecDeque::new() }
    }

    /// The message in a datagram; `None` for the first half of one.
    pub fn open(&mut self, datagram: &[u8]) -> Result<Option<Vec<u8>>, Refusal> {
        let frame = wire::read(datagram)?;
        let header = frame.header;
        if header.cluster != self.seal.cluster {
            return Err(Refusal::ForeignCluster);
        }
        // The cheap questions first: an attacker may ask them often.
        if header.session == self.seal.session {
            return Err(Refusal::Own);
        }
        if !self.windows.is_new(&header.session, header.counter) {
            return Err(Refusal::Replayed);
        }
        let plain = self.decrypt(&frame)?;
        self.windows.note(header.session, header.counter);
        Ok(self.joined(&header, plain))
    }

    fn decrypt(&self, frame: &Frame<'_>) -> Result<Vec<u8>, Refusal> {
        let keys = self.seal.keys();
        let mut candidates = keys.keys.iter().filter(|key| key.id == frame.header.key).peekable();
        candidates.peek().ok_or(Refusal::WrongKey)?;
        let payload = || Payload { msg: frame.sealed, aad: frame.clear };
        candidates.find_map(|key| key.cipher.decrypt(&nonce(&frame.header), payload()).ok()).ok_or(Refusal::Forged)
    }

    fn joined(&mut self, header: &Header, plain: Vec<u8>) -> Option<Vec<u8>> {
        let waiting = self.halves.iter().position(|(session, ..)| *session == header.session);
        match header.part {
            Part::Whole => Some(plain),
            Part::First => {
                waiting.and_then(|at| self.halves.remove(at));
                if self.halves.len() >= HALVES_MAX {
                    self.halves.pop_front();
                }
                self.halves.push_back((header.session, header.counter, plain));
                None
            }
            Part::Second => {
                let (_, counter, mut first) = self.halves.remove(waiting?)?;
                first.extend(plain);
                (counter + 1 == header.counter && first.len() <= MESSAGE_MAX_BYTES).then_some(first)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &str = "a secret of sixteen bytes or more";

    fn seal_of(secret: &str, group: &str) -> Arc<Seal> {
        Arc::new(Seal::new(group, Keys::from_secret(secret, group)).unwrap())
    }

    fn opener() -> Opener {
        Opener::new(seal_of(SECRET, "g"))
    }

    fn one(seal: &Seal, message: &[u8]) -> Vec<u8> {
        let mut frames = seal.seal(message).unwrap();
        assert_eq!(frames.len(), 1);
        frames.remove(0)
    }

    #[test]
    fn each_refusal_has_its_name() {
        let (sender, mut opener) = (seal_of(SECRET, "g"), opener());
        let good = one(&sender, b"hello");
        assert_eq!(opener.open(&one(&seal_of(SECRET, "other"), b"hello")), Err(Refusal::ForeignCluster));
        assert_eq!(opener.open(&one(&seal_of("another secret of some bytes", "g"), b"hello")), Err(Refusal::WrongKey));
        for at in 1..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 1;
            assert!(opener.open(&changed).is_err(), "byte {at}");
        }
        let mut forged = good.clone();
        *forged.last_mut().unwrap() ^= 1;
        assert_eq!(opener.open(&forged), Err(Refusal::Forged));
        assert_eq!(opener.open(&good), Ok(Some(b"hello".to_vec())), "no forged one took its place");
        assert_eq!(opener.open(&good), Err(Refusal::Replayed));
        let own = opener.seal.clone();
        assert_eq!(opener.open(&one(&own, b"hello")), Err(Refusal::Own));
    }

    #[test]
    fn the_key_before_is_still_accepted() {
        let keys = |secret: &str| Keys::from_secret(secret, "g");
        let (first, second, third) = (keys("one"), keys("two"), keys("three"));
        let seal = |keys: &Keys| Arc::new(Seal::new("g", keys.clone()).unwrap());
        let receiver = seal(&first);
        let mut opener = Opener::new(receiver.clone());
        receiver.set_keys(second.clone().replacing(&first));
        assert!(opener.open(&one(&seal(&first), b"1")).is_ok());
        assert!(opener.open(&one(&seal(&second), b"2")).is_ok());
        assert!(Opener::new(seal(&second)).open(&one(&receiver, b"3")).is_ok(), "the newest seals");
        receiver.set_keys(third.clone().replacing(&second.replacing(&first)));
        assert_eq!(opener.open(&one(&seal(&first), b"4")), Err(Refusal::WrongKey), "not the one before that");
        assert!(third.clone().replacing(&third).keys.len() == 1);
        assert_eq!(format!("{third:?}"), "Keys { count: 1, .. }");
    }

    #[test]
    fn a_message_for_which_one_frame_is_too_small_goes_as_two() {
        let (sender, mut opener) = (seal_of(SECRET, "g"), opener());
        let message: Vec<u8> = (0..MESSAGE_MAX_BYTES).map(|at| at as u8).collect();
        assert_eq!(sender.seal(&message[..PLAIN_MAX_BYTES]).unwrap().len(), 1);
        let frames = sender.seal(&message).unwrap();
        assert_eq!(frames.len(), 2);
        assert_eq!(opener.open(&frames[0]), Ok(None));
        assert_eq!(opener.open(&frames[1]), Ok(Some(message.clone())));
        assert_eq!(sender.seal(&[message.clone(), vec![0]].concat()), None);
        // One half is lost, or late: the message is.
        let (first, second) = (sender.seal(&message).unwrap(), sender.seal(&message).unwrap());
        assert_eq!(opener.open(&first[0]), Ok(None));
        assert_eq!(opener.open(&second[1]), Ok(None));
        for _ in 0..HALVES_MAX + 3 {
            assert_eq!(opener.open(&seal_of(SECRET, "g").seal(&message).unwrap()[0]), Ok(None));
        }
        assert_eq!(opener.halves.len(), HALVES_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_sealed_can_be_opened(message in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert_eq!(opener().open(&one(&seal_of(SECRET, "g"), &message)), Ok(Some(message)));
        }

        #[test]
        fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut opener = opener();
            prop_assert!(opener.open(&bytes).is_err());
            // The same behind a header that is right.
            let header = one(&seal_of(SECRET, "g"), &vec![0; bytes.len()]);
            let clear = header.len() - bytes.len() - 16;
            prop_assert!(opener.open(&[&header[..clear], &bytes[..], &[0; 16]].concat()).is_err());
        }
    }
}
