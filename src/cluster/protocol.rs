//! What goes in and what comes out: the events and actions of the control plane.
//!
//! | action | answered by |
//! |---|---|
//! | `AskEnds` | `Ends` or `EndsFailed` |
//! | `AskJavaGroup` | `JavaGroup`, or nothing when the question failed |
//! | `Probe` | `ProbeAnswered` |
//! | `Append...`, `Write...`, `CompareAndTombstone` | `Appended` or `AppendFailed`; what counts comes later, by reading: `Folded`, `StatusRead` |
//! | `StartUnit` | `UnitStopped`, some day |
//! | `StopUnit` | `UnitStopped` |
//! | `SuspendUnit`, `ResumeUnit`, `Joined`, `Left`, `Exit`, `ForeignRegisters` | nothing |
//!
//! Order matters in six places, and only the caller can keep it:
//! * [`Event::Progress`] is given after the [`Event::Folded`] and [`Event::StatusRead`] of all records below the positions that
//!   it names. Otherwise a lease would vouch for records that were not taken into account.
//! * Two records that change the set of one group, or take its units away and bring them back, are not told in one [`Event::Folded`]: the
//!   barrier has to see each set that somebody else may have seen. This begins when the config topic was read to an end for the first
//!   time; until then one event for many records is enough.
//! * The time given with an event is taken before the actions of that step are carried out: the lease counts from the
//!   step that said [`Action::AskEnds`].
//! * Each [`Action`] with a token is answered once, and within a bounded time.
//! * [`Event::UnitStopped`] is given once per started claim, when nothing of it can write any more: its code has ended or its channels are closed, and
//!   none of its status writes is under way. Until then the caller may write statuses for the claim with
//!   [`register_fields`](super::ControlPlane::register_fields), one at a time; afterwards not.
//! * The actions of one step are carried out in their order.

use std::sync::Arc;

use super::member::{Incarnation, Member, Millis, Nonce, Register, RegisterFields, Unit, WorkerId};

/// Names a request, so that its answer can be told from others. Never reused within a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub u64);

/// A change of what is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WantedChange {
    /// The unit is wanted from now on, like this.
    Wanted(Unit),
    /// The unit of this name is not wanted any more.
    Unwanted(Arc<str>),
}

/// What a living member says of itself by gossip.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its life.
    pub incarnation: Incarnation,
    /// Whether its herder has a lease.
    pub leased: bool,
    /// Up to where it has read the config topic.
    pub config: i64,
    /// Up to where it has read each partition of the status topic, by number; those that it does not tell are missing at the end.
    pub status: Vec<i64>,
}

/// Why a record is not known to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFailure {
    /// The log was read to its end, and the comparison said no.
    Refused,
    /// Nobody acknowledged it. It may still land.
    Unacknowledged,
    /// It can not be stored, and trying again is of no use.
    Fatal,
}

/// What came of [`Action::Probe`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeAnswer {
    /// The process with that very nonce answers.
    Alive,
    /// The member that was asked in our place says that it does not reach it.
    NotReached,
    /// Nobody answered, or somebody else.
    Silence,
}

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// Begin. The listeners are open; the readers read from the beginning.
    Start,
    /// Time passed. Due at [`next_deadline`](super::ControlPlane::next_deadline); earlier or later ones do no harm to safety.
    Tick,
    /// Records of the config topic were folded. `position` is the offset behind the last one.
    Folded {
        /// Offset of the next record to fold.
        position: i64,
        /// Everyone whose last `worker-*` record has a value.
        members: Arc<[Member]>,
        /// What this changes in the units that somebody has to hold; none are wanted at first. The tasks of a stopped connector are left
        /// out; the connector itself is not, nor is anything of a paused one, since its holder writes its status. The status of a
        /// unit that is left out is removed.
        changes: Vec<WantedChange>,
    },
    /// A status record was read; each one, in the order of its partition, also those of Java, those of unknown units and own ones.
    StatusRead {
        /// The unit that its key names.
        unit: Arc<str>,
        /// As in [`Unit::group`]; derived from the key alone.
        group: Option<Arc<str>>,
        /// Partition of the status topic.
        partition: i32,
        /// What it says of the unit's holder.
        register: Register,
    },
    /// Everything below these positions was given to the control plane.
    Progress {
        /// Position in the config topic.
        config: i64,
        /// Position in each partition of the status topic, by number.
        status: Vec<i64>,
    },
    /// The leaders answered [`Action::AskEnds`], under the isolation of the reader of each topic.
    Ends {
        /// Which request.
        ask: Token,
        /// End of the config topic.
        config: i64,
        /// End of each partition of the status topic, by number.
        status: Vec<i64>,
    },
    /// [`Action::AskEnds`] failed or took too long.
    EndsFailed {
        /// Which request.
        ask: Token,
    },
    /// Since when the caller's oldest write to the config topic is unacknowledged, other than writes asked for by an [`Action`]; `None`
    /// when there is none. Given when it changes.
    OldestAppend(Option<Millis>),
    /// A write of the caller's own, not asked for by an [`Action`], was given up without an acknowledgement. It may still land.
    GivenUp {
        /// Of the status topic; `None`: the one of the config topic.
        partition: Option<i32>,
        /// When it began.
        since: Millis,
    },
    /// The answer to [`Action::Probe`].
    ProbeAnswered {
        /// Who was asked.
        worker: WorkerId,
        /// Which life of it.
        incarnation: Incarnation,
        /// Whether it lives.
        answer: ProbeAnswer,
    },
    /// Something speaks for the death of this life, for example a connection that it held was lost: it is asked whether it lives.
    Suspected {
        /// Which life.
        incarnation: Incarnation,
    },
    /// Who is alive by gossip, other than this worker, and what they say. Given when any of it changes; a guess, which makes this worker ask, or makes
    /// it more careful, and decides nothing.
    Peers(Arc<[Peer]>),
    /// The answer to [`Action::AskJavaGroup`]: whether a group of this id has members that are Java workers. Not given
    /// when the question failed; it is asked again.
    JavaGroup {
        /// Whether it has members.
        live: bool,
    },
    /// A record is stored by all in-sync replicas; for [`Action::CompareAndTombstone`]: committed.
    Appended {
        /// Which request.
        token: Token,
    },
    /// A record was not stored, or it is not known whether it was.
    AppendFailed {
        /// Which request.
        token: Token,
        /// What is known.
        failure: AppendFailure,
        /// What went wrong.
        error: String,
    },
    /// A unit that was started has stopped, on request or by itself. A unit that merely FAILED has not: it keeps its claim until
    /// it is told to stop.
    UnitStopped {
        /// Its name.
        unit: Arc<str>,
        /// The claim that it ran under.
        claim: u64,
    },
    /// An internal topic was truncated, emptied or made anew: what was read is not the truth any more.
    LogLost {
        /// What was noticed, where.
        error: String,
    },
    /// Leave in an orderly way, at the latest at the deadline.
    Shutdown {
        /// When to give up waiting.
        deadline: Millis,
    },
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the leaders, never a cache, for the ends of the config topic and of all status partitions.
    AskEnds {
        /// To be repeated in the answer.
        ask: Token,
    },
    /// Ask whether the Java group has members.
    AskJavaGroup,
    /// Ask the process at the addresses of this member's record whether it is the one with this nonce. Somebody else
    /// at that address, for example this very process, counts as no answer; so does another member that cannot say.
    Probe {
        /// Whom.
        worker: WorkerId,
        /// Which life of it.
        incarnation: Incarnation,
        /// The nonce that it must answer with.
        nonce: Nonce,
        /// The member that is to ask in our place; `None`: we do.
        via: Option<WorkerId>,
    },
    /// Append `joined` under the own id. Not to be retried: whether it landed is seen by reading.
    AppendJoined {
        /// To be answered.
        token: Token,
        /// The nonce of this attempt.
        nonce: Nonce,
    },
    /// Append `draining` under the own id.
    AppendDraining {
        /// To be answered.
        token: Token,
        /// Own life.
        incarnation: Incarnation,
        /// The nonce it joined with.
        nonce: Nonce,
    },
    /// Append the own record once more, now as settled.
    AppendSettled {
        /// To be answered.
        token: Token,
        /// Own life.
        incarnation: Incarnation,
        /// The nonce it joined with.
        nonce: Nonce,
    },
    /// Append a record that changes nothing, to see whether a partition takes one: nothing else is to be written there, and the last write was not acknowledged.
    AppendNothing {
        /// To be answered.
        token: Token,
        /// Of the status topic; `None`: the one of the config topic.
        partition: Option<i32>,
    },
    /// Append a tombstone under the own id.
    AppendGone {
        /// To be answered.
        token: Token,
    },
    /// Compare and append: a tombstone for this member, provided that its record still shows this incarnation.
    CompareAndTombstone {
        /// To be answered.
        token: Token,
        /// Whom.
        worker: WorkerId,
        /// Which life of it.
        incarnation: Incarnation,
    },
    /// The own `joined` record was folded: this worker is a member. Said again with a new incarnation after an eviction.
    Joined {
        /// Own life, in every record from now on.
        incarnation: Incarnation,
    },
    /// Write a status record that claims the unit; nothing runs yet.
    WriteClaim {
        /// To be answered.
        token: Token,
        /// Its name.
        unit: Arc<str>,
        /// Its partition of the status topic.
        partition: i32,
        /// Our fields of the record.
        fields: RegisterFields,
    },
    /// Write a status record that releases the unit.
    WriteRelease {
        /// To be answered.
        token: Token,
        /// Its name.
        unit: Arc<str>,
        /// Its partition of the status topic.
        partition: i32,
        /// Our fields of the record.
        fields: RegisterFields,
    },
    /// Write a tombstone for the status of a unit that is not wanted any more.
    WriteTombstone {
        /// To be answered.
        token: Token,
        /// Its name.
        unit: Arc<str>,
        /// Its partition of the status topic.
        partition: i32,
    },
    /// Tell the operator: the registers of so many units, of which this is one, name offsets of the config topic that it does not have. They
    /// are taken for records of another cluster.
    ForeignRegisters {
        /// One of them.
        unit: Arc<str>,
        /// The offset that it names.
        at: i64,
        /// Of how many units.
        units: usize,
    },
    /// Run the unit under this claim.
    StartUnit {
        /// What to run.
        unit: Unit,
        /// The claim, to be repeated in [`Event::UnitStopped`].
        claim: u64,
    },
    /// Stop the unit. May be said twice for a claim: first orderly, then hard.
    StopUnit {
        /// Its name.
        unit: Arc<str>,
        /// The claim that it runs under.
        claim: u64,
        /// Another worker may hold it: stop without committing anything and without a status.
        hard: bool,
    },
    /// No new batch, no commit, no status; tear nothing down.
    SuspendUnit {
        /// Its name.
        unit: Arc<str>,
        /// The claim that it runs under.
        claim: u64,
    },
    /// Go on after [`Action::SuspendUnit`].
    ResumeUnit {
        /// Its name.
        unit: Arc<str>,
        /// The claim that it runs under.
        claim: u64,
    },
    /// The worker has left in an orderly way; nothing of it runs and the log says so.
    Left,
    /// End the process. Units that ran were told to stop hard before.
    Exit {
        /// Why.
        reason: ExitReason,
    },
}

/// Why a worker ends.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExitReason {
    /// The own worker id belongs to another process that lives.
    #[error(
        "another living process is worker {worker} of this group: give each worker its own \
         rest.advertised.host.name and rest.advertised.port, or stop the other one"
    )]
    SameId {
        /// The id.
        worker: WorkerId,
    },
    /// The topics belong to the workers of another group: nobody could tell whose connectors are whose.
    #[error(
        "config.storage.topic is used by group.id={theirs}: its worker {worker} is there. This worker has group.id={own}; give it that group.id, or \
         topics of its own"
    )]
    ForeignGroup {
        /// Who was there first.
        worker: WorkerId,
        /// Its `group.id`.
        theirs: Arc<str>,
        /// That of this worker.
        own: Arc<str>,
    },
    /// A living member has another fence time.
    #[error(
        "worker {worker} of this group has worker.fence.timeout.ms={theirs}, and this one {own}: who waits for less than others may act would run \
         what they still run. Give all workers the same; to change it, stop all of them"
    )]
    FenceTime {
        /// Who.
        worker: WorkerId,
        /// Milliseconds.
        theirs: u64,
        /// Milliseconds.
        own: u64,
    },
    /// There is no room for another one.
    #[error(
        "the group has {members} members, and gossip has no room for more: run fewer and larger workers, or another group. Members that are gone for \
         good are removed by those that live, or by `connect-node evict`"
    )]
    TooMany {
        /// How many there are.
        members: usize,
    },
    /// A Java worker of the group lives.
    #[error("Java workers of the same group.id are alive: stop all of them before this worker takes the group over")]
    JavaGroup,
    /// A record could not be written, and trying again is of no use.
    #[error("cannot write to an internal topic: {0}")]
    Append(String),
    /// What was read is not the truth any more.
    #[error("an internal topic cannot be used as it was opened, so this worker must read it anew: {0}")]
    LogLost(String),
    /// Not everything could be stopped and released in time. Others run it after the fence time.
    #[error("the worker could not leave in time; waited for: {0}")]
    Deadline(String),
}
