//! Where a task is, and how it failed.

use std::fmt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

macro_rules! phases {
    ($($(#[$doc:meta])* $variant:ident $name:literal $user:literal,)*) => {
        /// What a pump is doing. Callbacks of plug-ins are user code: each has a deadline.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Phase {
            $($(#[$doc])* $variant,)*
        }

        impl Phase {
            const ALL: &[Phase] = &[$(Phase::$variant,)*];

            /// The name that traces, logs and metrics show.
            pub fn name(self) -> &'static str {
                match self { $(Phase::$variant => $name,)* }
            }

            /// Whether code of a plug-in runs.
            pub fn is_user_code(self) -> bool {
                match self { $(Phase::$variant => $user,)* }
            }
        }
    };
}

phases! {
    /// Waits for records, room, a directive or time to pass.
    Idle "idle" false,
    /// Builds converters and transformations.
    Configure "configure" true,
    /// `initialize` of a task.
    Initialize "initialize" true,
    /// `start`.
    Start "start" true,
    /// `task_configs` of a connector.
    TaskConfigs "task configs" true,
    /// `poll`.
    Poll "poll" true,
    /// A transformation or predicate.
    Transform "transform" true,
    /// A key, value or header converter.
    Convert "convert" true,
    /// Handing records to the writer.
    Send "send" false,
    /// Waiting for acknowledgements.
    Ack "ack" false,
    /// Writing to the offset topic.
    OffsetWrite "offset write" false,
    /// `commit` or `commit_record` of a source task.
    Commit "commit" true,
    /// Reading from Kafka.
    Consume "consume" false,
    /// `open` of a sink task.
    Open "open" true,
    /// `put`.
    Put "put" true,
    /// `flush` or `pre_commit`.
    Flush "flush" true,
    /// `close` of a sink task.
    Close "close" true,
    /// Committing consumer offsets.
    OffsetCommit "offset commit" false,
    /// `stop`.
    Stop "stop" true,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The present phase of a pump, readable from outside: this is how a hang is found. Written once per callback, not
/// once per record. Also keeps the first failure, since a pump that failed still has its end before it, which may hang or panic.
#[derive(Debug)]
pub struct PhaseCell {
    origin: Instant,
    /// Phase in the lowest 8 bits, milliseconds since `origin` above.
    state: AtomicU64,
    first_failure: OnceLock<Failure>,
}

impl Default for PhaseCell {
    fn default() -> Self {
        PhaseCell { origin: Instant::now(), state: AtomicU64::new(Phase::Idle as u64), first_failure: OnceLock::new() }
    }
}

impl PhaseCell {
    /// A new phase begins now.
    pub fn enter(&self, phase: Phase) {
        let since = self.origin.elapsed().as_millis() as u64;
        self.state.store(since << 8 | phase as u64, Ordering::Release);
    }

    /// The pump fails of this, and cleans up from now on. Only the first one is kept.
    pub fn fail(&self, failure: &Failure) {
        self.first_failure.get_or_init(|| failure.clone());
    }

    /// What the pump fails of, although it has not ended.
    pub fn failure(&self) -> Option<Failure> {
        self.first_failure.get().cloned()
    }

    /// Whether a callback of the plug-in has taken longer than this.
    pub fn is_overdue(&self, deadline: Duration) -> bool {
        // Most pumps are between two callbacks, and cost no look at the clock.
        let phase = Phase::ALL[(self.state.load(Ordering::Acquire) & 0xff) as usize];
        phase.is_user_code() && matches!(self.current(), (phase, time) if phase.is_user_code() && time > deadline)
    }

    /// The present phase and for how long it has lasted.
    pub fn current(&self) -> (Phase, Duration) {
        let state = self.state.load(Ordering::Acquire);
        let since = Duration::from_millis(state >> 8);
        (Phase::ALL[(state & 0xff) as usize], self.origin.elapsed().saturating_sub(since))
    }
}

/// Why a task or connector is FAILED.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it was doing.
    pub phase: Phase,
    /// What went wrong, with causes.
    pub message: String,
    /// Backtrace of a panic.
    pub backtrace: Option<String>,
    /// Whether a callback did not return, so that the plug-in may still hold a thread.
    pub hung: bool,
}

impl Failure {
    /// A failure with an error and its causes.
    pub fn new(phase: Phase, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            message.push_str("\nCaused by: ");
            message.push_str(&cause.to_string());
            source = cause.source();
        }
        Failure { phase, message, backtrace: None, hung: false }
    }

    /// A failure that is a sentence.
    pub fn text(phase: Phase, message: impl Into<String>) -> Self {
        Failure { phase, message: message.into(), backtrace: None, hung: false }
    }

    /// The text in the status record: first what failed, then where.
    pub fn trace(&self) -> String {
        match &self.backtrace {
            Some(backtrace) => format!("failed in {}: {}\n{backtrace}", self.phase, self.message),
            None => format!("failed in {}: {}", self.phase, self.message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_phase_is_seen_with_its_age() {
        let cell = PhaseCell::default();
        assert_eq!(cell.current().0, Phase::Idle);
        tokio::time::advance(Duration::from_secs(3)).await;
        cell.enter(Phase::Put);
        tokio::time::advance(Duration::from_secs(41)).await;
        assert_eq!(cell.current(), (Phase::Put, Duration::from_secs(41)));
        for phase in Phase::ALL {
            cell.enter(*phase);
            assert_eq!(cell.current().0, *phase);
        }
    }

    #[test]
    fn a_trace_names_phase_and_causes() {
        let error = connect_api::ConnectError::fatal("cannot write").caused_by(std::io::Error::other("disk full"));
        let trace = Failure::new(Phase::Put, &error).trace();
        assert_eq!(trace, "failed in put: cannot write\nCaused by: disk full");
    }
}
