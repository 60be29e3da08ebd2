//! Writes status records: for each unit one at a time and in order, so that the last record of a unit is the last thing that was
//! said of it. Ends with its herder.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use futures_util::stream::{self, Stream, StreamExt};
use tokio::sync::mpsc;

use super::herder::Herder;
use super::lease;
use super::supervision::backoff;
use crate::cluster::{Millis, Token};
use crate::storage::status_records::{StatusRecord, UnitId};
use crate::storage::status_store::StatusStore;
use crate::storage::topic_log::LogError;

/// How long a status may take to be stored.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// Writes that are under way at a time, each of another unit. Further ones wait.
const WRITES_MAX: usize = 256;

/// What a write is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The control plane waits for the answer.
    Register(Token),
    /// What a unit does. Superseded by the next such write while it waits, tried again when it failed.
    State,
}

/// Herder to status actor.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct WriteStatus {
    /// Whose.
    pub unit: UnitId,
    /// The record; `None` for a tombstone.
    pub record: Option<StatusRecord>,
    /// What for.
    pub purpose: Purpose,
}

/// Herder to status actor: no state of this unit is to be written any more. Answered when none is under way.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub struct SealUnit {
    /// Whose.
    pub unit: UnitId,
    /// The claim, for the answer.
    pub claim: u64,
}

/// Status actor to herder.
#[derive(Debug, Message)]
#[rtype(result = "()")]
pub enum StatusAnswer {
    /// The write of a register ended.
    Written(Token, Result<(), LogError>),
    /// A state of this unit was given up without an acknowledgement; it began then.
    GivenUp(UnitId, Millis),
    /// No write of a state of this unit is under way.
    Sealed(UnitId, u64),
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(Option<StatusRecord>, Purpose)>,
    /// What is under way.
    writing: Option<(Option<StatusRecord>, Purpose)>,
    /// When it began.
    began_at: Millis,
    failures: u32,
    /// A state that failed waits for its next attempt. Registers and seals do not wait for it.
    resting: bool,
    sealing: Option<u64>,
}

/// See the module.
pub struct StatusActor {
    store: Arc<StatusStore>,
    herder: Addr<Herder>,
    queues: HashMap<UnitId, Queue>,
    /// To the future that carries writes out: one for all, since an actor polls each of its futures whenever one of them is woken. At
    /// most one write of each unit is in it, so it needs no bound of its own.
    writes: mpsc::UnboundedSender<Write>,
    /// Its other end, until this has started.
    to_write: Option<mpsc::UnboundedReceiver<Write>>,
}

type Write = (UnitId, Option<StatusRecord>);

/// A write has ended.
struct Written {
    unit: UnitId,
    result: Result<(), LogError>,
}

impl StatusActor {
    /// Writes to `store` and answers to `herder`.
    pub fn new(store: Arc<StatusStore>, herder: Addr<Herder>) -> Self {
        let (writes, to_write) = mpsc::unbounded_channel();
        StatusActor { store, herder, queues: HashMap::new(), writes, to_write: Some(to_write) }
    }

    #[cfg(test)]
    pub(super) fn has_failed(&self, unit: &UnitId) -> bool {
        self.queues.get(unit).is_some_and(|queue| queue.failures > 0)
    }

    fn next(&mut self, unit: UnitId, context: &mut Context<Self>) {
        if !self.herder.connected() {
            // The herder crashed, and its claims with it: a write that comes later would be taken for news of the next one's.
            return context.stop();
        }
        let Some(queue) = self.queues.get_mut(&unit) else { return };
        if queue.writing.is_some() {
            return;
        }
        let resting = queue.resting;
        if let Some(claim) = queue.sealing.take() {
            self.herder.do_send(StatusAnswer::Sealed(unit.clone(), claim));
        }
        if resting && queue.waiting.front().is_some_and(|(_, purpose)| *purpose == Purpose::State) {
            return;
        }
        let Some((record, purpose)) = queue.waiting.pop_front() else {
            if !resting {
                self.queues.remove(&unit);
            }
            return;
        };
        queue.writing = Some((record.clone(), purpose));
        queue.began_at = lease::now();
        // The other end lives as long as this actor.
        _ = self.writes.send((unit, record));
    }

    /// Carries writes out.
    fn carry_out(
        store: Arc<StatusStore>,
        mut writes: mpsc::UnboundedReceiver<Write>,
    ) -> impl Stream<Item = Written> + use<> {
        let write = move |(unit, record)| {
            let store = store.clone();
            async move {
                let result = store.put(&unit, record, WRITE_TIMEOUT).await.map(drop);
                Written { unit, result }
            }
        };
        stream::poll_fn(move |context| writes.poll_recv(context)).map(write).buffer_unordered(WRITES_MAX)
    }

    fn written(&mut self, unit: UnitId, result: Result<(), LogError>, context: &mut Context<Self>) {
        let Some(queue) = self.queues.get_mut(&unit) else { return };
        let Some((record, purpose)) = queue.writing.take() else { return };
        let began_at = queue.began_at;
        match (&result, purpose) {
            (Ok(()), _) => queue.failures = 0,
            (Err(error), Purpose::State) => {
                tracing::warn!(%unit, %error, "a status was not written; tried again");
                queue.failures += 1;
                // A refusal is an answer of the leader.
                if error.is_retriable() {
                    self.herder.do_send(StatusAnswer::GivenUp(unit.clone(), began_at));
                }
                if queue.sealing.is_none() && queue.waiting.is_empty() {
                    queue.waiting.push_back((record, purpose));
                    queue.resting = true;
                    let rested = unit.clone();
                    context.run_later(backoff(queue.failures - 1), move |actor, context| {
                        if let Some(queue) = actor.queues.get_mut(&rested) {
                            queue.resting = false;
                        }
                        actor.next(rested, context);
                    });
                }
            }
            (Err(_), Purpose::Register(_)) => {}
        }
        if let Purpose::Register(token) = purpose {
            self.herder.do_send(StatusAnswer::Written(token, result));
        }
        self.next(unit, context);
    }
}

impl Actor for StatusActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        if let Some(writes) = self.to_write.take() {
            context.add_stream(StatusActor::carry_out(self.store.clone(), writes));
        }
    }
}

impl StreamHandler<Written> for StatusActor {
    fn handle(&mut self, Written { unit, result }: Written, context: &mut Context<Self>) {
        self.written(unit, result, context);
    }

    /// It ends with this actor.
    fn finished(&mut self, _: &mut Context<Self>) {}
}

impl Handler<WriteStatus> for StatusActor {
    type Result = ();
    fn handle(&mut self, WriteStatus { unit, record, purpose }: WriteStatus, context: &mut Context<Self>) {
        let queue = self.queues.entry(unit.clone()).or_default();
        if let Purpose::Register(_) = purpose {
            // The register is the last word about the unit: an older state must not come behind it, and need not come in front.
            queue.waiting.retain(|(_, purpose)| *purpose != Purpose::State);
            queue.resting = false;
        }
        match queue.waiting.back_mut() {
            Some(last) if last.1 == Purpose::State && purpose == Purpose::State => *last = (record, purpose),
            _ => queue.waiting.push_back((record, purpose)),
        }
        self.next(unit, context);
    }
}

impl Handler<SealUnit> for StatusActor {
    type Result = ();
    fn handle(&mut self, SealUnit { unit, claim }: SealUnit, context: &mut Context<Self>) {
        let queue = self.queues.entry(unit.clone()).or_default();
        queue.waiting.retain(|(_, purpose)| *purpose != Purpose::State);
        queue.resting = false;
        // A state that failed is not tried again.
        queue.failures = 0;
        queue.sealing = Some(claim);
        self.next(unit, context);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{ClientSettings, Isolation, NewTopic, memory};
    use crate::storage::status_records::UnitState;
    use crate::storage::topic_log::LogSettings;

    /// Brokers take a second for each answer; one after the other, these would take minutes.
    #[tokio::test(start_paused = true)]
    async fn statuses_of_many_units_are_written_together() {
        const NAME: &str = "statuses-together";
        let backend = memory::open(NAME);
        let topic =
            NewTopic { name: "status".into(), partitions: 5, replication_factor: 1, config: Default::default() };
        backend.admin().create_topic(&topic).await.unwrap();
        let (reader, writer) = (ClientSettings::new(), ClientSettings::new());
        let settings = LogSettings { reader, writer, writer_max_bytes: 1 << 20, isolation: Isolation::ReadUncommitted };
        let store = StatusStore::open(backend, "status", settings).await.unwrap();
        memory::faults(NAME).delay_acks(Duration::from_secs(1));
        let state = UnitState::Running;
        let record = StatusRecord {
            state,
            trace: None,
            worker_id: "w".into(),
            generation: 0,
            version: None,
            register: None,
            restart: None,
        };
        let (writes, to_write) = mpsc::unbounded_channel();
        for task in 0..2 * WRITES_MAX as u32 {
            writes.send((UnitId::Task("c".into(), task), Some(record.clone()))).unwrap();
        }
        drop(writes);
        let began = tokio::time::Instant::now();
        let written: Vec<Written> = StatusActor::carry_out(Arc::new(store), to_write).collect().await;
        assert_eq!(written.iter().filter(|written| written.result.is_ok()).count(), 2 * WRITES_MAX);
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    }
}
