//! Who runs what: members, leases, registers and the barrier, as one state machine without I/O.
//!
//! ```text
//!   config topic -> fold -> members, wanted units -> owner of a unit      who should run it (may lag)
//!   status topic -> last record of the unit = its register                who may run it (never two)
//! ```
//!
//! [`ControlPlane::step`] takes an [`Event`] and the time and says what to do. This room knows opaque unit names only; it
//! never hears of connectors, topics or actors, and it never reads a clock.

mod ahead;
mod appends;
mod assignment;
mod barrier;
mod control_plane;
mod lease;
mod member;
mod membership;
mod probes;
mod protocol;
mod register;
mod returns;
mod rules;
#[cfg(test)]
mod scenarios;
mod units;
mod watch;

pub use control_plane::{ControlPlane, Kept, Page, Report, Settings, UnitReport, Waiting};
pub use member::{Incarnation, Member, MemberState, Millis, NO_SET, Nonce, Register, RegisterFields, Unit, WorkerId};
pub use protocol::{Action, AppendFailure, Event, ExitReason, Peer, ProbeAnswer, Token, WantedChange};
#[cfg(test)]
pub(crate) use rules::Rules;
