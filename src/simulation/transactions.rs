//! Compare-and-append under the id that all workers share: who begins fences every other writer, checks against the whole topic, and commits all records
//! or none. Plain appends of others may come between the check and the commit.

use super::clock::{MS, Micros};
use super::fold::Fold;
use super::log::{ConfigRecord, TaskSet};
use super::world::{CONFIG, Letter, Message, Record, Who, World};
use crate::cluster::{AppendFailure, Event, Incarnation, Token};

/// How long a transaction may be open: then the coordinator aborts it.
const TIMEOUT: Micros = 5_000 * MS;

/// Attempts: each fenced one means that another worker was at it.
const MAX_ATTEMPTS: u32 = 8;

/// The longest wait before the second attempt; it doubles with each further one.
const BACK_OFF: Micros = 50 * MS;

/// What is to be written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Write {
    /// The tombstone of a member that is dead. `own`: the evictor's life.
    Evict {
        token: Token,
        worker: usize,
        own: Incarnation,
        victim: usize,
        incarnation: Incarnation,
    },
    /// The tasks of a connector, by who runs it under this claim.
    Tasks {
        connector: usize,
        set: TaskSet,
        worker: usize,
        incarnation: Incarnation,
        claim: u64,
        said: u64,
    },
    /// Requests of clients, who hear of the outcome, or do not.
    Create(usize),
    /// Changes the configuration that was read at `seen`, where it was `value`.
    Put {
        connector: usize,
        seen: i64,
        value: u64,
    },
    Delete(usize),
    Stop(usize),
}

#[derive(Debug, Clone)]
pub(super) struct Transaction {
    who: Who,
    write: Write,
    attempt: u32,
    epoch: u64,
    began: Micros,
    /// What the check came to.
    records: Vec<ConfigRecord>,
}

/// How it came out.
enum Outcome {
    Done,
    /// The check said no.
    Refused,
    /// Not written, or nobody knows.
    Failed,
}

impl Transaction {
    pub(super) fn new(who: Who, write: Write) -> Self {
        Transaction { who, write, attempt: 1, epoch: 0, began: 0, records: Vec::new() }
    }
}

impl World {
    /// Takes the id over, reads to the end and checks.
    pub(super) fn begin_transaction(&mut self, mut transaction: Transaction) {
        self.epoch += 1;
        (transaction.epoch, transaction.began) = (self.epoch, self.now);
        match self.checked(&transaction.write) {
            None => self.transaction_over(&transaction, Outcome::Refused),
            Some(records) if records.is_empty() => self.transaction_over(&transaction, Outcome::Done),
            Some(records) => {
                transaction.records = records;
                let at = self.soon();
                // In flight, or held up in its process.
                let message = match self.rng.bool() {
                    true => Message::Commit(transaction),
                    false => Message::To(transaction.who, Letter::Commit(transaction)),
                };
                self.send(at, message);
            }
        }
    }

    /// The records to write; `None`: what has to hold does not.
    fn checked(&self, write: &Write) -> Option<Vec<ConfigRecord>> {
        let truth = &self.truth;
        Some(match *write {
            Write::Evict { worker, own, victim, incarnation, .. } => {
                if !truth.is_member(worker, own) || !truth.is_member(victim, incarnation) {
                    return None;
                }
                vec![ConfigRecord::Worker(victim, None)]
            }
            Write::Tasks { connector, set, worker, incarnation, .. } => {
                let state = truth.connector(connector);
                let current = state.config.is_some_and(|(offset, _)| offset == set.made_for) && !state.stopped;
                if self.switches.owner_check() && !(current && truth.is_member(worker, incarnation)) {
                    return None;
                }
                let written = state.set.is_some_and(|(_, in_force)| in_force == set);
                if written { Vec::new() } else { vec![ConfigRecord::Tasks(connector, set)] }
            }
            Write::Create(connector) => created(truth, connector)?,
            Write::Put { connector, seen, value } => {
                truth.connector(connector).config.filter(|(offset, _)| *offset == seen)?;
                vec![ConfigRecord::Connector(connector, Some(value + 1))]
            }
            Write::Delete(connector) => {
                truth.connector(connector).config?;
                vec![ConfigRecord::Connector(connector, None), ConfigRecord::Stopped(connector, false)]
            }
            Write::Stop(connector) => {
                let (made_for, _) = truth.connector(connector).config?;
                let none = TaskSet { count: 0, made_for };
                vec![ConfigRecord::Tasks(connector, none), ConfigRecord::Stopped(connector, true)]
            }
        })
    }

    /// The commit comes to the coordinator.
    pub(super) fn commit(&mut self, mut transaction: Transaction) {
        if self.without_leader[CONFIG] > self.now {
            return self.send(self.without_leader[CONFIG], Message::Commit(transaction));
        }
        let fenced = transaction.epoch != self.epoch && self.switches.transaction();
        if fenced || self.now - transaction.began > TIMEOUT {
            self.figures.fenced += 1;
            if transaction.attempt == MAX_ATTEMPTS {
                return self.transaction_over(&transaction, Outcome::Failed);
            }
            let at = self.soon() + self.rng.u64(0..BACK_OFF << transaction.attempt);
            transaction.attempt += 1;
            return self.send(at, Message::To(transaction.who, Letter::Begin(transaction)));
        }
        self.figures.transactions += 1;
        match transaction.write {
            Write::Create(connector) => _ = self.accepted.insert(connector, 0),
            Write::Put { connector, .. } => *self.accepted.entry(connector).or_default() += 1,
            Write::Evict { incarnation, .. } => {
                self.figures.evictions += 1;
                self.evicted.insert(incarnation);
            }
            Write::Tasks { connector, set, worker, incarnation, .. } => {
                self.check_task_set(connector, set, worker, incarnation);
            }
            Write::Delete(_) | Write::Stop(_) => {}
        }
        for record in std::mem::take(&mut transaction.records) {
            self.land(CONFIG, Record::Config(record));
        }
        let unknown = self.chance(self.weather.fails);
        self.transaction_over(&transaction, if unknown { Outcome::Failed } else { Outcome::Done });
    }

    fn transaction_over(&mut self, transaction: &Transaction, outcome: Outcome) {
        let who = transaction.who;
        match transaction.write {
            Write::Evict { token, .. } => {
                let event = match outcome {
                    Outcome::Done => Event::Appended { token },
                    Outcome::Refused => failed(token, AppendFailure::Refused),
                    Outcome::Failed => failed(token, AppendFailure::Unacknowledged),
                };
                let at = self.soon();
                self.send(at, Message::To(who, Letter::Event(event)));
            }
            Write::Tasks { connector, claim, said, .. } if matches!(outcome, Outcome::Failed) => {
                self.say_tasks_again(who, connector, claim, said);
            }
            // Who runs the connector by then says them anew.
            Write::Tasks { .. } | Write::Create(_) | Write::Put { .. } | Write::Delete(_) | Write::Stop(_) => {}
        }
    }
}

/// A connector that takes a name. What an older one left under it must not become its own.
fn created(truth: &Fold, connector: usize) -> Option<Vec<ConfigRecord>> {
    let state = truth.connector(connector);
    if state.config.is_some() {
        return None;
    }
    let mut records = Vec::new();
    if state.stopped {
        records.push(ConfigRecord::Stopped(connector, false));
    }
    records.push(ConfigRecord::Connector(connector, Some(0)));
    if state.set.is_some() {
        // Made for no configuration of this connector: the set that it says will differ.
        records.push(ConfigRecord::Tasks(connector, TaskSet { count: 0, made_for: -1 }));
    }
    Some(records)
}

fn failed(token: Token, failure: AppendFailure) -> Event {
    Event::AppendFailed { token, failure, error: "not evicted".into() }
}
