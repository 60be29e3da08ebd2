//! What `GET /cluster` shows: one worker's view of the members and units. Kafka Connect has nothing like it.

use serde::Serialize;

use crate::storage::status_records::RestartStatus;

/// Units of one answer. More are asked for with [`UnitsPage::after`].
pub const UNITS_MAX: usize = 1000;

/// Which units are asked for: the first [`UNITS_MAX`] in the order of their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UnitsPage {
    /// Only those behind this name.
    pub after: Option<String>,
}

/// `GET /cluster`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterView {
    /// Who answers.
    pub worker: WorkerView,
    /// Everyone whose record is in the config topic.
    pub members: Vec<MemberView>,
    /// Units by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub units: Option<Vec<UnitView>>,
    /// The name of the last one, where there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The worker that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WorkerView {
    /// Its advertised host:port.
    pub worker_id: String,
    /// Its life; null while it is no member.
    pub incarnation: Option<i64>,
    /// How old its view of the topics is at most, in milliseconds; null without a lease.
    pub lease_age_ms: Option<u64>,
    /// Behind the last record of the config topic that it has read.
    pub config_position: i64,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MemberView {
    /// Its advertised host:port.
    pub worker_id: String,
    /// Which of its lives: the offset of the record with which it joined.
    pub incarnation: i64,
    /// `joined` or `draining`.
    pub state: &'static str,
    /// Whether it has held its share of the units since it joined.
    pub settled: bool,
    /// Units that it holds by their registers.
    pub load: usize,
    /// Of connect-node.
    pub version: String,
    /// Whether it lives by gossip; null where this worker does not gossip.
    pub heard: Option<bool>,
    /// Where its REST API is reached.
    pub rest_url: String,
}

/// A connector or task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct UnitView {
    /// The key of its record in the status topic.
    pub name: String,
    /// Who should run it, by the assignment of the worker that answers.
    pub owner: Option<String>,
    /// Who may run it, by its register.
    pub holder: Option<HolderView>,
    /// Its last status: RUNNING, FAILED and so on.
    pub state: Option<&'static str>,
    /// Why it does not run, as far as the worker that answers knows; null where it runs, or is not wanted.
    pub waiting: Option<String>,
    /// What the restart policy of its connector makes of a unit that failed lately.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart: Option<RestartView>,
}

/// What `restart.policy` makes of a unit that failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RestartView {
    /// `open`: it failed too often, and is not started again by itself. `closed` otherwise.
    pub breaker: &'static str,
    /// Which failure within the window the last one was, from 1.
    pub attempt: u32,
    /// When it failed last, milliseconds since 1970; since then a breaker is open.
    pub since_ms: i64,
    /// When it is started again, milliseconds since 1970; absent where it was already, or is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at_ms: Option<i64>,
    /// Why, and with an open breaker how to close it.
    pub reason: String,
}

impl From<&RestartStatus> for RestartView {
    fn from(status: &RestartStatus) -> Self {
        RestartView {
            breaker: status.breaker(),
            attempt: status.attempt,
            since_ms: status.since_ms,
            next_at_ms: status.next_at_ms,
            reason: status.reason.clone(),
        }
    }
}

/// Who holds a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HolderView {
    /// Its advertised host:port; null where that life is over.
    pub worker_id: Option<String>,
    /// Which of its lives.
    pub incarnation: i64,
}

/// A worker that was removed from the members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Evicted {
    /// Its advertised host:port.
    pub worker_id: String,
    /// The life that is over.
    pub incarnation: i64,
}
