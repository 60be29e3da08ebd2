//! Waiting for the turn to take the shared transactional id over.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::super::cluster_state::ClusterState;
use super::super::config_records::ConfigRecord;
use super::super::turns::{HOLD, begins};
use super::{LogError, TopicLog};

/// How long a worker waits for its turn before it takes the id over out of turn.
const LONGEST_WAIT: Duration = Duration::from_secs(20);

/// How long an append of a record about turns may take. Without it the write goes on all the same.
const RECORD_TIMEOUT: Duration = Duration::from_secs(1);

/// One worker among those that take turns. See [`super::super::turns`].
pub struct TurnTaker {
    /// The worker's id; `None`: it takes no turns.
    name: Option<String>,
    state: watch::Receiver<ClusterState>,
    /// How many turns had ended when one was last seen to end, and when that was.
    turned: (u64, Option<Instant>),
    /// What says that its turn is over, and those before it that did not use theirs: for its transaction. Empty where it is nobody's turn.
    ends: Vec<ConfigRecord>,
    /// Until when it may go on writing while others wait.
    holds_until: Option<Instant>,
}

impl TurnTaker {
    /// `name` is the worker's id; without, no turns are taken.
    pub fn new(name: Option<String>, state: watch::Receiver<ClusterState>) -> TurnTaker {
        TurnTaker { name, state, turned: (0, None), ends: Vec::new(), holds_until: None }
    }

    /// Waits for the next record of the topic and notes whether a turn has ended; for ever once the log has. To be polled between writes, or else a turn
    /// that ended counts from when the next write looks.
    pub async fn watch(&mut self) {
        while self.state.changed().await.is_ok() {
            self.look();
        }
        std::future::pending().await
    }

    /// Whether who had the id may begin another transaction with it.
    pub fn may_go_on(&self) -> bool {
        let Some(name) = &self.name else { return true };
        let state = self.state.borrow();
        // Another one's turn has fenced this one. It would hear of it from the broker, in the middle of an attempt.
        let is_fenced = self.has_rivals(name) && state.turns().others_had_it(name);
        let has_time = self.holds_until.is_some_and(|until| Instant::now() < until);
        !is_fenced && (has_time || !state.turns().others_wait(name))
    }

    /// What is to be written in the transaction.
    pub fn ends(&self) -> &[ConfigRecord] {
        &self.ends
    }

    /// The id was taken. What was committed says that the turn is over; where there was nothing to commit, that is written for itself.
    pub async fn done(&mut self, log: &TopicLog, committed: bool) {
        if !committed {
            self.give_back(log).await;
        } else if !self.ends.is_empty() {
            self.ends.clear();
            self.holds_until = Some(Instant::now() + HOLD);
        }
    }

    /// There is nothing to write, or it cannot be written.
    pub async fn give_back(&mut self, log: &TopicLog) {
        let ends = std::mem::take(&mut self.ends);
        self.append(log, &ends).await;
    }

    /// Waits until this worker may take the id over. Where there is no other member, that is at once.
    pub async fn wait(&mut self, log: &TopicLog) {
        self.ends.clear();
        self.look();
        let Some(name) = self.name.clone().filter(|name| self.has_rivals(name)) else { return };
        let deadline = Instant::now() + LONGEST_WAIT;
        let mut asked = None;
        loop {
            self.look();
            let state = self.state.borrow().clone();
            let Some(before) = state.turns().before(&name) else {
                // Also after it was left out by one behind it.
                let wish = ConfigRecord::Turn(name.clone(), true);
                if Instant::now() >= deadline || !self.append(log, &[wish]).await {
                    return;
                }
                asked = Some(Instant::now());
                continue;
            };
            // Who is no member any more is not waited for.
            let members = before.iter().filter(|worker| state.member(worker).is_some()).count();
            let begin = begins(members, *asked.get_or_insert_with(Instant::now), self.turned.1).min(deadline);
            if timeout_at(begin, self.state.changed()).await.is_err() {
                let over = before.iter().map(|worker| worker.to_string()).chain([name]);
                self.ends = over.map(|worker| ConfigRecord::Turn(worker, false)).collect();
                return;
            }
        }
    }

    fn has_rivals(&self, name: &str) -> bool {
        let state = self.state.borrow();
        state.turns().others_wait(name) || state.members().any(|(member, _)| member != name)
    }

    fn look(&mut self) {
        let ended = self.state.borrow_and_update().turns().ended();
        if self.turned.0 != ended {
            self.turned = (ended, Some(Instant::now()));
        }
    }

    /// Whether it was written and read.
    async fn append(&self, log: &TopicLog, records: &[ConfigRecord]) -> bool {
        let written = async {
            let records = records.iter().map(|record| record.encode(log.topic())).collect();
            for (partition, offset) in log.append(records, RECORD_TIMEOUT).await? {
                log.wait_until_seen(partition, offset, RECORD_TIMEOUT).await?;
            }
            Ok::<_, LogError>(())
        };
        let outcome = written.await;
        if let Err(error) = &outcome {
            tracing::debug!(topic = log.topic(), %error, "no turn could be asked for or given back");
        }
        outcome.is_ok()
    }
}
