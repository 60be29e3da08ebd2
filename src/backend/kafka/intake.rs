//! Where a reader's messages come from: a client of its own, or clients that it shares.

use std::sync::Arc;

use connect_api::TopicPartition;
use tokio::sync::Notify;

use super::closing::Closing;
use super::legs::Legs;
use super::native::{Consumer, Message, Messages, PartitionList};
use super::pool::Pool;
use crate::backend::{BackendError, ClientSettings, Result};

pub(super) enum Intake {
    Own(Closing<Own>),
    Shared(Legs),
}

pub(super) struct Own {
    messages: Messages,
    consumer: Consumer,
}

pub(super) fn list_of(partitions: &[(TopicPartition, i64)]) -> Result<PartitionList> {
    PartitionList::new(partitions.iter().map(|(partition, offset)| (partition, *offset)))
}

pub(super) fn plain_list(partitions: &[TopicPartition]) -> Result<PartitionList> {
    PartitionList::new(partitions.iter().map(|partition| (partition, 0)))
}

impl Intake {
    /// A client of these settings. It notifies when there is something to take.
    pub(super) fn own(settings: &ClientSettings, wake: &Arc<Notify>) -> Result<Intake> {
        let consumer = Consumer::new(settings)?;
        let mut messages = consumer.messages()?;
        messages.enable_wake(wake);
        Ok(Intake::Own(Closing::new(Own { messages, consumer })))
    }

    /// A place at the clients of a pool. They notify when there is something to take.
    pub(super) fn shared(pool: Arc<Pool>, wake: &Arc<Notify>) -> Result<Intake> {
        Ok(Intake::Shared(Legs::new(pool, wake)?))
    }

    /// Reads these partitions and no others.
    pub(super) fn assign(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        match self {
            Intake::Own(own) => own.consumer.assign(&list_of(partitions)?),
            Intake::Shared(legs) => legs.assign(partitions),
        }
    }

    pub(super) fn add(&mut self, partitions: &[(TopicPartition, i64)]) -> Result<()> {
        match self {
            Intake::Own(own) => own.consumer.add(&list_of(partitions)?),
            Intake::Shared(legs) => legs.add(partitions),
        }
    }

    pub(super) fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        match self {
            Intake::Own(own) => own.consumer.remove(&plain_list(partitions)?),
            Intake::Shared(legs) => legs.remove(partitions),
        }
    }

    /// Goes on at these offsets.
    pub(super) fn replace(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        match self {
            // The client's own seek fails on a partition that it has not begun to fetch; to assign it anew works always.
            Intake::Own(own) => {
                let list = list_of(offsets)?;
                own.consumer.remove(&list)?;
                own.consumer.add(&list)
            }
            Intake::Shared(legs) => legs.replace(offsets),
        }
    }

    pub(super) fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        match self {
            Intake::Own(own) => own.consumer.pause(&plain_list(partitions)?),
            Intake::Shared(legs) => legs.pause(partitions),
        }
    }

    pub(super) fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        match self {
            Intake::Own(own) => own.consumer.resume(&plain_list(partitions)?),
            Intake::Shared(legs) => legs.resume(partitions),
        }
    }

    /// Hands over what is there, at most `max` messages, without waiting; how many there were.
    pub(super) fn take(&mut self, max: usize, each: impl FnMut(&[Message<'_>])) -> usize {
        match self {
            Intake::Own(own) => own.messages.take(max, each),
            Intake::Shared(legs) => legs.take(max, each),
        }
    }

    /// An error that is of no partition, where it does not come with the messages.
    pub(super) fn listen(&mut self) -> Option<BackendError> {
        match self {
            Intake::Own(_) => None,
            Intake::Shared(legs) => legs.listen(),
        }
    }
}
