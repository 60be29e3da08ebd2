//! What the writer thread decides: commands in, effects and answers out. Pure.
//!
//! Effects take hold on the planner's own [`Meta`] at once, so that the next command of the same group sees them. Where the group cannot
//! be stored, the planner begins again with what is durable.

use std::collections::BTreeMap;
use std::sync::Arc;

use connect_api::TopicPartition;
use tokio::sync::oneshot;

use super::meta::{Effect, Meta, Place, Topic, TransactionId};
use super::policy::Policy;
use super::wire::{Row, RowBuilder};
use crate::backend::rules::{AUTO_CREATED_PARTITIONS, is_compacted, keyless, partition_count};
use crate::backend::{BackendError, Result};

/// Where an answer goes.
pub(super) type Reply<T = ()> = oneshot::Sender<Result<T>>;

/// Gives an answer, once it is known whether the group was stored.
pub(super) type Answer = Box<dyn FnOnce(&Result<()>) + Send>;

/// Records of one partition that become one row.
#[derive(Debug)]
pub(super) struct NewRow {
    pub topic: Arc<str>,
    pub partition: i32,
    /// One of the records has no key.
    pub keyless: bool,
    pub records: RowBuilder,
}

/// Something to do besides appending.
pub(super) enum Command {
    CreateTopic {
        name: String,
        partitions: i32,
        config: BTreeMap<String, String>,
        reply: Reply,
    },
    SetTopicSetting {
        name: String,
        setting: String,
        value: String,
        reply: Reply,
    },
    DeleteTopic {
        name: String,
        reply: Reply,
    },
    CommitOffsets {
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
        reply: Reply,
    },
    DeleteOffsets {
        group: String,
        partitions: Vec<TopicPartition>,
        reply: Reply,
    },
    /// Aborts what an earlier writer of the id has open and answers with the epoch of the new one.
    TakeOver {
        transactional_id: String,
        reply: Reply<u64>,
    },
    /// Answers with the offset of the first record of each row.
    AppendInTransaction {
        transactional_id: String,
        epoch: u64,
        rows: Vec<NewRow>,
        reply: Reply<Vec<i64>>,
    },
    AddOffsets {
        transactional_id: String,
        epoch: u64,
        group: String,
        offsets: Vec<(TopicPartition, i64)>,
        reply: Reply,
    },
    EndTransaction {
        transactional_id: String,
        epoch: u64,
        commit: bool,
        reply: Reply,
    },
    /// What upkeep found. Concerns nobody where the topic is gone.
    Upkeep {
        effect: Effect,
        reply: Reply,
    },
}

impl Command {
    /// Bytes of the rows that it brings.
    pub(super) fn row_bytes(&self) -> usize {
        match self {
            Command::AppendInTransaction { rows, .. } => rows.iter().map(|row| row.records.byte_count()).sum(),
            Command::Upkeep { effect: Effect::Rewritten { added, .. }, .. } => {
                added.iter().map(|row| row.bytes.len()).sum()
            }
            _ => 0,
        }
    }
}

/// The planner.
pub(super) struct Planner {
    pub meta: Meta,
    pub effects: Vec<Effect>,
    /// Effects of a group that met an error of the disk, and may be stored or not.
    pub doubtful: Vec<Effect>,
    /// Transactions that were open when the process before ended may still be open.
    pub orphaned: bool,
}

fn answer<T: Send + 'static>(reply: Reply<T>, planned: Result<T>) -> Answer {
    Box::new(move |stored| {
        let answer = match (planned, stored) {
            (Ok(_), Err(error)) => Err(error.clone()),
            (planned, _) => planned,
        };
        // Who asked may have stopped waiting; what was done is done all the same.
        drop(reply.send(answer));
    })
}

impl Planner {
    pub(super) fn new(meta: Meta) -> Planner {
        Planner { meta, effects: Vec::new(), doubtful: Vec::new(), orphaned: true }
    }

    fn emit(&mut self, effect: Effect) {
        self.meta.apply(&effect);
        self.effects.push(effect);
    }

    /// Plans one command. `room`: whether there is some for the rows that it brings.
    pub(super) fn plan(&mut self, command: Command, room: Result<()>) -> Answer {
        match command {
            Command::CreateTopic { name, partitions, config, reply } => {
                answer(reply, self.create_topic(&name, partitions, config))
            }
            Command::SetTopicSetting { name, setting, value, reply } => answer(reply, self.set(&name, setting, value)),
            Command::DeleteTopic { name, reply } => answer(reply, self.delete_topic(&name)),
            Command::CommitOffsets { group, offsets, reply } => {
                self.emit(Effect::OffsetsCommitted { group, offsets });
                answer(reply, Ok(()))
            }
            Command::DeleteOffsets { group, partitions, reply } => {
                if self.meta.groups.contains_key(&group) {
                    self.emit(Effect::OffsetsDeleted { group, partitions });
                }
                answer(reply, Ok(()))
            }
            Command::TakeOver { transactional_id, reply } => answer(reply, Ok(self.take_over(transactional_id))),
            Command::AppendInTransaction { transactional_id, epoch, rows, reply } => {
                answer(reply, room.and_then(|()| self.append_in_transaction(&transactional_id, epoch, rows)))
            }
            Command::AddOffsets { transactional_id, epoch, group, offsets, reply } => {
                let added = self.transaction(&transactional_id, epoch).map(|transaction| {
                    self.emit(Effect::OffsetsJoined { transactional_id, transaction, group, offsets });
                });
                answer(reply, added)
            }
            Command::EndTransaction { transactional_id, epoch, commit, reply } => {
                let known = self.check_epoch(&transactional_id, epoch);
                answer(reply, known.map(|()| self.end_transaction(&transactional_id, commit)))
            }
            Command::Upkeep { effect, reply } => {
                let place = match &effect {
                    Effect::Truncated { at, .. } | Effect::Rewritten { at, .. } => Some(at),
                    _ => None,
                };
                // Rows of a topic that was deleted since then must not come up again.
                if room.is_ok() && place.is_none_or(|at| self.meta.at(at).is_some()) {
                    self.emit(effect);
                }
                answer(reply, room)
            }
        }
    }

    fn create_topic(&mut self, name: &str, partitions: i32, config: BTreeMap<String, String>) -> Result<()> {
        let partitions = partition_count(name, partitions)?;
        Policy::parse(name, &config)?;
        if !self.meta.topics.contains_key(name) {
            let id = self.meta.last_id + 1;
            self.emit(Effect::TopicCreated { name: name.into(), id, partitions, config });
        }
        Ok(())
    }

    fn set(&mut self, name: &str, setting: String, value: String) -> Result<()> {
        let Some((name, topic)) = self.meta.topics.get_key_value(name) else {
            return Err(BackendError::Refused(format!("there is no topic {name}")));
        };
        let (name, mut config) = (Arc::clone(name), topic.config.clone());
        config.insert(setting, value);
        Policy::parse(&name, &config)?;
        self.emit(Effect::TopicSet { name, config });
        Ok(())
    }

    fn delete_topic(&mut self, name: &str) -> Result<()> {
        if let Some((name, topic)) = self.meta.topics.get_key_value(name) {
            let (name, id) = (Arc::clone(name), topic.id);
            self.forget_offsets_of(&name);
            self.emit(Effect::TopicDeleted { name, id });
        }
        Ok(())
    }

    /// As Kafka's group coordinator: groups have no offsets in a topic that is gone, and none in another one of its name.
    fn forget_offsets_of(&mut self, topic: &str) {
        let of_topic = |(group, offsets): (&String, &BTreeMap<TopicPartition, i64>)| {
            let partitions: Vec<_> = offsets.keys().filter(|at| &*at.topic == topic).cloned().collect();
            (!partitions.is_empty()).then(|| Effect::OffsetsDeleted { group: group.clone(), partitions })
        };
        let effects: Vec<_> = self.meta.groups.iter().filter_map(of_topic).collect();
        effects.into_iter().for_each(|effect| self.emit(effect));
    }

    /// Appends a row and returns the offset of its first record. Makes the topic where there is none.
    pub(super) fn append(&mut self, row: NewRow) -> Result<i64> {
        let at = self.place(&row)?;
        self.append_at(at, row.records, 0)
    }

    /// Where a row goes, or why it is refused.
    fn place(&mut self, row: &NewRow) -> Result<Place> {
        if !self.meta.topics.contains_key(&row.topic) && row.partition < AUTO_CREATED_PARTITIONS {
            self.create_topic(&row.topic, AUTO_CREATED_PARTITIONS, BTreeMap::new())?;
        }
        let fits = |topic: &&Topic| usize::try_from(row.partition).is_ok_and(|at| at < topic.partitions.len());
        let topic = self.meta.topics.get(&row.topic).filter(fits);
        let topic = topic.ok_or_else(|| {
            BackendError::Refused(format!("there is no partition {} of topic {}", row.partition, row.topic))
        })?;
        if row.keyless && is_compacted(&topic.config) {
            return Err(keyless(&row.topic));
        }
        Ok(Place { topic: Arc::clone(&row.topic), id: topic.id, partition: row.partition })
    }

    fn append_at(&mut self, at: Place, records: RowBuilder, transaction: TransactionId) -> Result<i64> {
        let base = self.meta.at(&at).map_or(0, |partition| partition.end);
        let row = Row::trusted(base, records.finish(transaction, 0))
            .map_err(|error| BackendError::Refused(format!("a row for {}: {error}", at.name())))?;
        self.emit(Effect::Appended { at, row });
        Ok(base)
    }

    fn take_over(&mut self, transactional_id: String) -> u64 {
        self.end_transaction(&transactional_id, false);
        let epoch = self.meta.transactional_ids.get(&transactional_id).map_or(0, |known| known.epoch) + 1;
        self.emit(Effect::TakenOver { transactional_id, epoch });
        epoch
    }

    fn check_epoch(&self, transactional_id: &str, epoch: u64) -> Result<()> {
        match self.meta.transactional_ids.get(transactional_id) {
            Some(known) if known.epoch == epoch => Ok(()),
            _ => Err(BackendError::Fenced(transactional_id.to_owned())),
        }
    }

    /// The open transaction of an id, or the one that comes to be with its first record.
    fn transaction(&self, transactional_id: &str, epoch: u64) -> Result<TransactionId> {
        self.check_epoch(transactional_id, epoch)?;
        let open = self.meta.transactional_ids.get(transactional_id).and_then(|known| known.open.as_ref());
        Ok(open.map_or(self.meta.last_id + 1, |open| open.id))
    }

    fn append_in_transaction(&mut self, transactional_id: &str, epoch: u64, rows: Vec<NewRow>) -> Result<Vec<i64>> {
        self.check_epoch(transactional_id, epoch)?;
        // All places are looked at before the first row is appended: half of a call is not left behind.
        let places = rows.iter().map(|row| self.place(row)).collect::<Result<Vec<_>>>()?;
        let mut offsets = Vec::with_capacity(rows.len());
        for (at, row) in places.into_iter().zip(rows) {
            let transaction = self.transaction(transactional_id, epoch)?;
            if !self.meta.at(&at).is_some_and(|partition| partition.open.contains_key(&transaction)) {
                let (at, transactional_id) = (at.clone(), transactional_id.to_owned());
                self.emit(Effect::Joined { at, transactional_id, transaction });
            }
            offsets.push(self.append_at(at, row.records, transaction)?);
        }
        Ok(offsets)
    }

    /// Ends the open transaction of an id, if there is one.
    fn end_transaction(&mut self, transactional_id: &str, commit: bool) {
        let open = self.meta.transactional_ids.get(transactional_id).and_then(|known| known.open.clone());
        let Some(open) = open else { return };
        for name in &open.partitions {
            if let Some(topic) = self.meta.topics.get(&name.topic) {
                let at = Place { topic: Arc::clone(&name.topic), id: topic.id, partition: name.partition };
                self.emit(Effect::Marker { at, transaction: open.id, commit });
            }
        }
        let offsets = if commit { open.offsets } else { Vec::new() };
        self.emit(Effect::Ended { transactional_id: transactional_id.to_owned(), offsets });
    }

    /// Ends, as aborted, the transactions that were open when the process ended: their writers ended with it. Again with each group until one
    /// is stored; before that no transaction of this process is among them.
    pub(super) fn abort_orphans(&mut self) {
        if !self.orphaned {
            return;
        }
        let open_in = |(name, topic): (&Arc<str>, &Topic)| {
            let (name, id) = (Arc::clone(name), topic.id);
            let numbered = topic.partitions.iter().enumerate();
            let open = numbered.flat_map(|(at, partition)| partition.open.keys().map(move |id| (at as i32, *id)));
            open.map(|(partition, transaction)| (Place { topic: Arc::clone(&name), id, partition }, transaction))
                .collect::<Vec<_>>()
        };
        let open: Vec<_> = self.meta.topics.iter().flat_map(open_in).collect();
        for (at, transaction) in open {
            self.emit(Effect::Marker { at, transaction, commit: false });
        }
    }
}
