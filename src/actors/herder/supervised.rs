//! Starts units that failed again, as `restart.policy` of their connector says.
//!
//! It is the herder's, and nobody else's: a unit that waits is FAILED and held, as one without a policy is. Whatever ends its run or asks for another one ends the
//! wait, and what was counted goes with the claim: whoever takes the unit over starts it at once, and knows of no failures.

use actix::prelude::*;

use super::*;
use crate::actors::handle::TargetState;
use crate::actors::restart_policy::{FailureHistory, Verdict};
use crate::config::connector::OnFailure;
use crate::metrics::UnitsByRestart;
use crate::pipeline::{Failure, Phase};
use crate::storage::records::with_values;
use crate::storage::status_records::{RestartStatus, UnitState};

/// Of a failure, so much is repeated in the reason of a restart, in bytes: the trace stands beside it.
const REASON_MAX_BYTES: usize = 256;

/// While plug-ins that were abandoned hold so many threads of this worker, a unit whose callback hung is not started again: each hang may hold one more for ever. Those that
/// were started before may still add one each.
const ABANDONED_THREADS_MAX: u64 = 32;

/// What failed last.
#[derive(Debug, Clone)]
struct LastFailure {
    phase: Phase,
    /// The front of its first line.
    message: String,
    /// Its callback did not return.
    hung: bool,
}

/// What the policy knows of a unit while this worker holds it.
pub(super) struct Supervised {
    history: FailureHistory,
    /// The connector record that it was counted under: another one begins anew.
    config_offset: i64,
    /// Since when this run has been running.
    ran_since: Option<Millis>,
    /// How this run failed, once it did.
    failed: Option<LastFailure>,
    /// When it is started again.
    due: Option<Millis>,
    /// For its status record.
    shown: Option<RestartStatus>,
}

impl Supervised {
    /// Of a unit that has not failed, under this connector record.
    pub(super) fn new(config_offset: i64) -> Self {
        let history = FailureHistory::default();
        Supervised { history, config_offset, ran_since: None, failed: None, due: None, shown: None }
    }

    /// The same unit, started again.
    pub(super) fn of_next_run(self) -> Self {
        Supervised { ran_since: None, failed: None, due: None, ..self }
    }

    /// This run runs, since now or before. What failed of a run that goes on, as that its task configurations could not be stored, is over.
    fn runs(&mut self, now: Millis, waits: &mut RestartWaits, unit: &UnitId) {
        self.ran_since.get_or_insert(now);
        if self.failed.take().is_some() {
            self.end_wait(waits, unit);
        }
    }

    /// Whether it was counted under an older connector record.
    pub(super) fn is_older_than(&self, config_offset: i64) -> bool {
        self.config_offset != config_offset
    }

    /// What the status record says.
    pub(super) fn shown(&self) -> Option<&RestartStatus> {
        self.shown.as_ref()
    }

    /// It is started again after so many milliseconds.
    fn wait_until(&mut self, now: Millis, wait_ms: u64, waits: &mut RestartWaits, unit: &UnitId) {
        let due = now.plus(wait_ms);
        self.due = Some(due);
        waits.due.insert((due, unit.clone()));
        if let Some(shown) = &mut self.shown {
            shown.next_at_ms = Some(wall_clock_ms().saturating_add_unsigned(wait_ms));
        }
    }

    /// It is not started again when its wait would be over, but now, or not at all.
    pub(super) fn end_wait(&mut self, waits: &mut RestartWaits, unit: &UnitId) {
        if let Some(due) = self.due.take() {
            waits.due.remove(&(due, unit.clone()));
        }
        if let Some(shown) = &mut self.shown {
            shown.next_at_ms = None;
        }
    }
}

/// Units by the end of their wait. One timer is for all of them: an actor polls each of its timers whenever it is woken.
#[derive(Default)]
pub(super) struct RestartWaits {
    due: BTreeSet<(Millis, UnitId)>,
    timer: Option<(Millis, SpawnHandle)>,
}

impl RestartWaits {
    pub(super) fn next(&self) -> Option<Millis> {
        self.due.first().map(|(at, _)| *at)
    }

    #[cfg(test)]
    pub(super) fn contains(&self, unit: &UnitId) -> bool {
        self.due.iter().any(|(_, waits)| waits == unit)
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    #[cfg(test)]
    pub(super) fn armed(&self) -> Option<Millis> {
        self.timer.map(|(at, _)| at)
    }

    fn take_due(&mut self, now: Millis) -> Option<UnitId> {
        let is_due = self.next().is_some_and(|at| at <= now);
        is_due.then(|| self.due.pop_first()).flatten().map(|(_, unit)| unit)
    }
}

impl Herder {
    /// The pump of a unit says that it runs, or is paused or stopped in order.
    pub(super) fn runs(&mut self, unit: &UnitId) {
        let Some(running) = self.running.get_mut(unit) else { return };
        let was_waiting = running.supervised.due.is_some();
        running.supervised.runs(lease::now(), &mut self.restart_waits, unit);
        if was_waiting {
            self.show_restarts(unit.connector());
        }
    }

    /// A run has failed: waits, or gives up. Nothing is decided twice of one run, nor of one that is to end anyway.
    pub(super) fn decide_restart(&mut self, unit: &UnitId, failure: &Failure) {
        let Some(running) = self.running.get_mut(unit) else { return };
        if running.restart || running.ending || running.supervised.failed.is_some() {
            return;
        }
        let message = failure.message.lines().next().unwrap_or_default();
        let message = message[..message.floor_char_boundary(REASON_MAX_BYTES)].to_owned();
        running.supervised.failed = Some(LastFailure { phase: failure.phase, message, hung: failure.hung });
        self.apply_policy(unit);
    }

    fn apply_policy(&mut self, unit: &UnitId) {
        let policy = self.policy_of(unit);
        let now = lease::now();
        let Some(running) = self.running.get_mut(unit) else { return };
        let supervised = &mut running.supervised;
        let (Some(policy), Some(failed)) = (policy, &supervised.failed) else {
            if supervised.shown.take().is_some() {
                self.show_restarts(unit.connector());
            }
            return;
        };
        let ran_ms = supervised.ran_since.map(|since| now.since(since));
        let verdict = supervised.history.failed(&policy, ran_ms, now, fastrand::f64());
        let shown = status(verdict, &policy, failed, unit);
        supervised.shown = Some(shown.clone());
        match verdict {
            Verdict::Wait { wait_ms, .. } => {
                supervised.wait_until(now, wait_ms, &mut self.restart_waits, unit);
                tracing::warn!(%unit, wait_ms, reason = shown.reason, "started again after a back-off");
            }
            Verdict::GiveUp { .. } => tracing::error!(%unit, reason = shown.reason, "not started again"),
        }
        self.show_restarts(unit.connector());
    }

    /// What the connector asks for, unless it is not to run at all: what failed while it was paused is looked at when it goes on.
    fn policy_of(&self, unit: &UnitId) -> Option<OnFailure> {
        let connector = self.state.connector(unit.connector())?;
        if self.state.target_state(unit.connector()) != TargetState::Started {
            return None;
        }
        OnFailure::from_props(&with_values(&connector.config)).unwrap_or_else(|error| {
            // Another program wrote it: here it would have been refused.
            tracing::warn!(%unit, %error, "its restart policy is wrong, so that it is not started again");
            None
        })
    }

    /// Somebody restarts the unit: what was counted does not count any more, and an open breaker is closed.
    pub(super) fn forget_failures(&mut self, unit: &UnitId) {
        let Some(running) = self.running.get_mut(unit) else { return };
        running.supervised.end_wait(&mut self.restart_waits, unit);
        running.supervised.history = FailureHistory::default();
        if running.supervised.shown.take().is_some() {
            self.show_restarts(unit.connector());
        }
    }

    /// The configuration of the connector is another one, or its target state: that may be the remedy, or forbid a restart. A unit that has failed waits for the first back-off,
    /// during which tasks of a changed set make room for the new ones.
    pub(super) fn supervise_anew(&mut self, unit: &UnitId) {
        let offset = self.state.connector(unit.connector()).map(|connector| connector.offset);
        let Some(running) = self.running.get_mut(unit) else { return };
        let supervised = &mut running.supervised;
        supervised.config_offset = offset.unwrap_or(supervised.config_offset);
        let (restart, failed, was_shown) = (running.restart, supervised.failed.is_some(), supervised.shown.is_some());
        self.forget_failures(unit);
        if restart {
            return;
        }
        if failed {
            self.apply_policy(unit);
        }
        let is_shown = self.running.get(unit).is_some_and(|running| running.supervised.shown.is_some());
        if was_shown || is_shown {
            self.publish(unit);
        }
    }

    /// Sets the timer to the end of the next wait. To be called behind whatever may have begun or ended one.
    pub(super) fn arm_restarts(&mut self, context: &mut Context<Self>) {
        let next = self.restart_waits.next();
        if self.restart_waits.timer.map(|(armed, _)| armed) == next {
            return;
        }
        if let Some((_, armed)) = self.restart_waits.timer.take() {
            context.cancel_future(armed);
        }
        if let Some(next) = next {
            let wait = Duration::from_millis(next.since(lease::now()));
            let handle = context.run_later(wait, |herder, context| {
                herder.restart_waits.timer = None;
                herder.restart_due(lease::now());
                herder.arm_restarts(context);
            });
            self.restart_waits.timer = Some((next, handle));
        }
    }

    /// Starts what has waited long enough.
    pub(super) fn restart_due(&mut self, now: Millis) {
        let abandoned = self.deps.metrics.worker().zombie_threads.load(std::sync::atomic::Ordering::Relaxed);
        while let Some(unit) = self.restart_waits.take_due(now) {
            let policy = self.policy_of(&unit);
            let Some(running) = self.running.get_mut(&unit) else { continue };
            running.supervised.due = None;
            let (Some(policy), Some(failed)) = (policy, running.supervised.failed.clone()) else { continue };
            if failed.hung && abandoned >= ABANDONED_THREADS_MAX {
                running.supervised.wait_until(now, policy.backoff_max_ms, &mut self.restart_waits, &unit);
                tracing::warn!(%unit, abandoned, "not started again yet: plug-ins that hang hold too many threads");
                self.publish(&unit);
                continue;
            }
            self.deps.metrics.restarted(unit.connector(), failed.phase.name());
            tracing::info!(%unit, "started again by its restart policy");
            if self.restart_unit(&unit) {
                self.set_state(&unit, UnitState::Restarting, None);
            }
            self.show_restarts(unit.connector());
        }
    }

    /// How many units of a connector wait and how many are given up, for the metrics.
    pub(super) fn show_restarts(&self, connector: &str) {
        let (first, last) = (UnitId::Task(connector.to_owned(), 0), UnitId::Task(connector.to_owned(), u32::MAX));
        let own = self.running.get(&UnitId::Connector(connector.to_owned()));
        let tasks = self.running.range(first..=last).map(|(_, running)| running);
        let mut counts: Option<UnitsByRestart> = None;
        for running in own.into_iter().chain(tasks).filter(|running| !running.ending) {
            let counts = counts.get_or_insert_default();
            counts.waiting += u64::from(running.supervised.due.is_some());
            counts.open += u64::from(running.supervised.shown.as_ref().is_some_and(|shown| shown.breaker_open));
        }
        self.deps.metrics.set_restarts(connector, counts);
    }
}

/// What the status record says of a decision; the end of a wait is told by whoever begins it.
fn status(verdict: Verdict, policy: &OnFailure, last: &LastFailure, unit: &UnitId) -> RestartStatus {
    let OnFailure { attempts_max, window_ms, .. } = policy;
    let what = format!("failed in {}: {}", last.phase, last.message);
    let (breaker_open, attempt, reason) = match verdict {
        Verdict::Wait { attempt, .. } => {
            (false, attempt, format!("failure {attempt} within {window_ms} ms, of at most {attempts_max}: {what}"))
        }
        Verdict::GiveUp { failures } => {
            let path = match unit {
                UnitId::Connector(name) => format!("/connectors/{name}/restart"),
                UnitId::Task(name, task) => format!("/connectors/{name}/tasks/{task}/restart"),
            };
            let reason = format!(
                "{failures} failures within {window_ms} ms, more than restart.max.attempts={attempts_max}: it is not started again until somebody does so \
                 (POST {path}) or changes the configuration of the connector; {what}"
            );
            (true, failures, reason)
        }
    };
    RestartStatus { breaker_open, attempt, since_ms: wall_clock_ms(), next_at_ms: None, reason }
}

/// For people: what is compared goes by [`lease::now`].
fn wall_clock_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
