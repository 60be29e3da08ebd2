//! How an actor steers a pump and what a pump reports.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use connect_api::Props;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::phase::PhaseCell;

/// What a pump is to do. The last one given counts; it takes effect between two batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Directive {
    /// Move records.
    Run,
    /// Move nothing, keep everything open, commit what was moved. (Target state PAUSED.)
    Pause,
    /// Keep nothing open. (Target state STOPPED, where only connectors are left.)
    Halt,
    /// No lease: move nothing, commit nothing, keep everything; what the client has queued is taken back.
    Suspend,
    /// End.
    Stop {
        /// When the orderly end has to be over.
        deadline: Instant,
        /// Whether offsets may still be committed: not when another worker owns the task already.
        commit: bool,
    },
}

/// What a pump says of itself. Failures are its result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// A task is complete, and is started as soon as it may run.
    Starting,
    /// It is started and moves records.
    Running,
    /// It is paused.
    Paused,
    /// A connector that is stopped by its target state.
    Halted,
    /// How a connector splits its work.
    TaskConfigs(Vec<Props>),
}

/// Asks a pump for a commit between two batches; several requests are one.
#[derive(Debug, Default)]
pub struct CommitSignal {
    due: AtomicBool,
    raised: Notify,
}

impl CommitSignal {
    /// A commit is due.
    pub fn raise(&self) {
        self.due.store(true, Ordering::Release);
        self.raised.notify_one();
    }

    /// Whether it was raised since the last call.
    pub fn take(&self) -> bool {
        self.due.swap(false, Ordering::AcqRel)
    }

    /// Waits until it is raised.
    pub async fn wait(&self) {
        self.raised.notified().await;
    }
}

/// How often a pump that ran out of its lease looks whether it is back. A herder that works says so at once.
const LEASE_CHECK: Duration = Duration::from_millis(50);

/// A pump that waits looks at its lease when it ends, and not more often or less often than this.
const LEASE_CHECK_MIN: Duration = Duration::from_millis(1);
const LEASE_CHECK_MAX: Duration = Duration::from_secs(60);

/// A pump's end of the line to its actor.
pub struct Control {
    directive: watch::Receiver<Directive>,
    /// Where the pump is.
    pub phase: Arc<PhaseCell>,
    lease_left: Box<dyn Fn() -> Duration + Send + Sync>,
    report: Box<dyn Fn(Report) + Send + Sync>,
    reported: Option<Report>,
}

impl Control {
    /// A pump's end of the line. `lease_left` compares the lease with the clock: how long it still lasts, zero without one.
    pub fn new(
        directive: watch::Receiver<Directive>,
        phase: Arc<PhaseCell>,
        lease_left: Box<dyn Fn() -> Duration + Send + Sync>,
        report: Box<dyn Fn(Report) + Send + Sync>,
    ) -> Self {
        Control { directive, phase, lease_left, report, reported: None }
    }

    /// What to do now. An actor that is gone means: stop at once, without a commit.
    pub fn directive(&self) -> Directive {
        if self.directive.has_changed().is_err() {
            return Directive::Stop { deadline: Instant::now(), commit: false };
        }
        match *self.directive.borrow() {
            Directive::Stop { deadline, commit } => Directive::Stop { deadline, commit: commit && self.leased() },
            directive if self.leased() => directive,
            _ => Directive::Suspend,
        }
    }

    fn leased(&self) -> bool {
        !(self.lease_left)().is_zero()
    }

    /// Whether offsets may be committed at this moment.
    pub fn may_commit(&self) -> bool {
        match self.directive() {
            Directive::Stop { commit, .. } => commit,
            Directive::Suspend => false,
            Directive::Run | Directive::Pause | Directive::Halt => true,
        }
    }

    /// Waits until [`Control::directive`] is another one than `known`. Looks at the clock itself when the lease may have
    /// ended, so that an actor that hangs keeps no pump going.
    pub async fn changed_from(&mut self, known: Directive) {
        loop {
            self.directive.mark_unchanged();
            if self.directive() != known {
                return;
            }
            let look = match known {
                Directive::Suspend => LEASE_CHECK,
                _ => (self.lease_left)().clamp(LEASE_CHECK_MIN, LEASE_CHECK_MAX),
            };
            tokio::select! {
                changed = self.directive.changed() => if changed.is_err() { return },
                _ = tokio::time::sleep(look) => {}
            }
        }
    }

    /// The same for who waits with nothing under way, and asks for [`Control::directive`] before it moves anything: it does not look at the clock,
    /// since thousands of idle pumps would wake for nothing else.
    pub async fn idle_changed_from(&mut self, known: Directive) {
        loop {
            self.directive.mark_unchanged();
            if self.directive() != known || self.directive.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether offsets may be committed. At the end in order a lease that has run out is waited for until `deadline`: brokers that stall for some
    /// seconds must not make an orderly end repeat what it has moved.
    pub async fn commits_allowed(&mut self, deadline: Instant) -> bool {
        while !self.may_commit() {
            let in_order = matches!(*self.directive.borrow_and_update(), Directive::Stop { commit: true, .. });
            if !in_order || Instant::now() >= deadline {
                return false;
            }
            tokio::select! {
                changed = self.directive.changed() => if changed.is_err() { return false },
                _ = tokio::time::sleep_until(deadline.min(Instant::now() + LEASE_CHECK)) => {}
            }
        }
        true
    }

    /// Waits until nothing may be committed any more.
    pub async fn commits_forbidden(&mut self) {
        while self.may_commit() {
            let look = (self.lease_left)().clamp(LEASE_CHECK_MIN, LEASE_CHECK_MAX);
            tokio::select! {
                // An error means that the actor is gone, which `may_commit` knows.
                _ = self.directive.changed() => {}
                _ = tokio::time::sleep(look) => {}
            }
        }
    }

    /// Tells the actor, once for each change.
    pub fn report(&mut self, report: Report) {
        if self.reported.as_ref() != Some(&report) {
            self.reported = Some(report.clone());
            (self.report)(report);
        }
    }

    /// Tells the actor how the work is to be split, each time.
    pub fn report_task_configs(&mut self, configs: Vec<Props>) {
        (self.report)(Report::TaskConfigs(configs));
    }
}
