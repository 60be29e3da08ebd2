//! Plain values: workers, their lives, units and what a register holds.
//!
//! Nothing here decides. The stores encode and decode these values; the rest of this room reasons about them.

use std::fmt;
use std::sync::Arc;

/// A point in time: milliseconds of a clock that counts while the machine is suspended and never steps back.
///
/// This room never reads a clock. With a clock that stands still during a suspend, a machine that wakes up would believe in a lease
/// that ended long ago.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// This many milliseconds later.
    pub fn plus(self, ms: u64) -> Millis {
        Millis(self.0.saturating_add(ms))
    }

    /// Milliseconds since `earlier`; 0 where that is later.
    pub fn since(self, earlier: Millis) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// The advertised `host:port` of a worker, Kafka Connect's `worker_id`. The key of its record in the config topic.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub Arc<str>);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<&str> for WorkerId {
    fn from(id: &str) -> Self {
        WorkerId(id.into())
    }
}

/// A random number that one attempt to join is known by. It tells a process its own `joined` record from that of another
/// process that uses the same worker id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nonce(pub u64);

/// One life of a worker: the offset of its `joined` record in the config topic. Unique in a cluster, since no two
/// records share an offset; repeated in every later record of that life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub i64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What a member says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It takes units.
    Joined,
    /// It hands its units over and takes none.
    Draining,
}

/// A worker whose last `worker-*` record has a value. A tombstone means gone, whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its worker id.
    pub id: WorkerId,
    /// Which of its lives.
    pub incarnation: Incarnation,
    /// What its process knows the record by.
    pub nonce: Nonce,
    /// Whether it takes units.
    pub state: MemberState,
    /// It once held its share of the units. Until then it takes some from others.
    pub settled: bool,
    /// Its `worker.fence.timeout.ms`; `None` in the record of a version that does not say.
    pub fence_ms: Option<u64>,
    /// Its `group.id`; `None` in a record that does not say.
    pub group_id: Option<Arc<str>>,
}

/// `set` of a unit that belongs to no task set.
pub const NO_SET: i64 = -1;

/// Something that one worker at a time runs: to this room an opaque name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Unique name; also what its status record is keyed by.
    pub name: Arc<str>,
    /// The units that are reconfigured together, one set after the other (the tasks of one connector): the scope of
    /// the barrier. `None` for a unit that stands alone, as a connector does.
    pub group: Option<Arc<str>>,
    /// Offset of the commit record of the set that the unit belongs to; [`NO_SET`] where `group` is `None`.
    pub set: i64,
    /// Partition of the status topic that its record is in.
    pub status_partition: i32,
}

/// What a status record carries besides Java's fields: the register of a unit. Java ignores them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RegisterFields {
    /// The life of the worker that wrote it.
    pub incarnation: Incarnation,
    /// Number of the claim, new for each claim of a process. With the incarnation it is unique in a cluster.
    pub claim: u64,
    /// Held, or released.
    pub held: bool,
    /// Offset in the config topic up to which, inclusively, the writer had folded; -1 for nothing.
    pub at: i64,
    /// Offset of the commit record of the set that the claim is for; [`NO_SET`] outside of sets.
    pub set: i64,
}

impl RegisterFields {
    /// Whether both records speak of one and the same claim, held or released.
    pub fn same_claim(&self, other: &RegisterFields) -> bool {
        self.incarnation == other.incarnation && self.claim == other.claim
    }
}

/// The last status record of a unit. Everything but a held claim means free.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Register {
    /// No record, or a tombstone.
    #[default]
    Empty,
    /// A record without our fields: a Java worker wrote it.
    Foreign,
    /// A record of ours.
    Ours(RegisterFields),
}

impl Register {
    /// The claim that holds the unit.
    pub fn holder(&self) -> Option<&RegisterFields> {
        match self {
            Register::Ours(fields) if fields.held => Some(fields),
            _ => None,
        }
    }
}
