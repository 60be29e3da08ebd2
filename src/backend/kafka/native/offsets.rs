//! Where partitions begin and end.
//!
//! By `rd_kafka_offsets_for_times`, which blocks, and not by `rd_kafka_ListOffsets`, which would not: librdkafka 2.12.1 crashes in it. It looks for the
//! leaders on the thread of the caller (`rd_kafka_topic_partition_list_query_leaders_async_worker`, which `rd_kafka_DeleteRecords` uses, too). Where
//! it does not know them all, any change of the metadata from then on lets the client's main thread go on with the same operation, and free it,
//! while the caller still works with it. A worker that asks several times a second through an outage of the brokers meets that. The call in here
//! looks for leaders on one thread alone, and drops what is answered after its time.

use std::time::Duration;

use connect_api::TopicPartition;
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::client::Client;
use super::errors::error_of_read;
use super::milliseconds;
use super::partitions::PartitionList;
use crate::backend::{BackendError, Result};

/// A place in a log, by the number that stands in the place of a time stamp when it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::backend::kafka) enum Edge {
    End = -1,
    Beginning = -2,
}

/// The answer to a request for offsets.
#[derive(Debug)]
pub(in crate::backend::kafka) enum Offsets {
    /// Of each partition that was asked about, in that order.
    Found(Vec<i64>),
    /// The client may remember other leaders, older epochs of theirs or other topics than there are now. It does not look again by itself: get
    /// metadata, then ask once more. The error is what is to be said if that ends like this.
    Stale(BackendError),
}

impl Client {
    /// Asks the leaders for the oldest offsets, or for the ends under the isolation of this client. Blocks.
    pub(in crate::backend::kafka) fn list_offsets_blocking(
        &self,
        partitions: &[TopicPartition],
        edge: Edge,
        timeout: Duration,
    ) -> Result<Offsets> {
        self.serve();
        let list = PartitionList::new(partitions.iter().map(|partition| (partition, edge as i64)))?;
        // SAFETY: client and list live, and nobody else has the list; the call keeps nothing of it.
        let code = unsafe { rd::rd_kafka_offsets_for_times(self.ptr(), list.ptr(), milliseconds(timeout)) };
        read(code, list.elements())
    }
}

/// What the client says of all partitions together, and of each.
fn read(code: Code, elements: Vec<(TopicPartition, Result<i64, Code>)>) -> Result<Offsets> {
    // That there is no leader of any is said of all; why, of each. Behind other codes the elements are as they were before.
    if !matches!(code, Code::RD_KAFKA_RESP_ERR_NO_ERROR | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION) {
        let partitions: Vec<String> = elements.iter().map(|(partition, _)| partition.to_string()).collect();
        return without_offsets(error_of_read(code, &format!("asking for offsets of {}", partitions.join(", ")), ""));
    }
    let mut offsets = Vec::with_capacity(elements.len());
    for (partition, offset) in &elements {
        let what = format!("asking for offsets of {partition}");
        match offset {
            Ok(offset) if *offset >= 0 => offsets.push(*offset),
            // A partition whose leader went away during the request has neither an error nor an offset: there still stands what was asked with.
            Ok(_) => return without_offsets(BackendError::Retriable(format!("{what}: the answer does not have it"))),
            Err(code) => return without_offsets(error_of_read(*code, &what, "")),
        }
    }
    Ok(Offsets::Found(offsets))
}

fn without_offsets(error: BackendError) -> Result<Offsets> {
    match error {
        error @ (BackendError::Retriable(_) | BackendError::UnknownPartition(_)) => Ok(Offsets::Stale(error)),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use Code::*;

    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition::new("t", partition)
    }

    /// `elements` are those of the partitions 0, 1 and so on.
    fn said(code: Code, elements: &[Result<i64, Code>]) -> String {
        let elements = elements.iter().enumerate().map(|(index, element)| (at(index as i32), *element)).collect();
        match read(code, elements) {
            Ok(Offsets::Found(offsets)) => format!("{offsets:?}"),
            Ok(Offsets::Stale(BackendError::Retriable(reason))) => format!("again: {reason}"),
            Ok(Offsets::Stale(BackendError::UnknownPartition(reason))) => format!("again, gone: {reason}"),
            other => format!("{other:?}"),
        }
    }

    #[track_caller]
    fn check(code: Code, elements: &[Result<i64, Code>], expected: &str) {
        let said = said(code, elements);
        assert!(said.starts_with(expected), "{said}");
    }

    #[test]
    fn offsets_are_found_for_all_partitions_or_none() {
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(7), Ok(0)], "[7, 0]");
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(7), Ok(-1)], "again: asking for offsets of t-1");
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(-2), Ok(7)], "again: asking for offsets of t-0");
        let moved = Err(RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION);
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(7), moved], "again: asking for offsets of t-1");
    }

    #[test]
    fn a_leader_that_moved_or_does_not_answer_is_looked_for_once_more() {
        for code in [
            RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
            RD_KAFKA_RESP_ERR_REPLICA_NOT_AVAILABLE,
            RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH,
            RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH,
            RD_KAFKA_RESP_ERR_KAFKA_STORAGE_ERROR,
            RD_KAFKA_RESP_ERR__TIMED_OUT,
            RD_KAFKA_RESP_ERR__TRANSPORT,
            RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
        ] {
            // The elements of such an answer say nothing.
            check(code, &[Ok(-1), Err(RD_KAFKA_RESP_ERR__IN_PROGRESS)], "again: asking for offsets of t-0, t-1");
        }
    }

    #[test]
    fn a_partition_without_a_leader_is_not_taken_for_one_that_is_gone() {
        let none = RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION;
        check(none, &[Err(RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)], "again: asking for offsets of t-0");
        check(none, &[Err(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)], "again, gone: asking for offsets of t-0");
        check(none, &[Err(RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION)], "again, gone: asking for offsets of t-0");
        let gone = Err(RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(7), gone], "again, gone: asking for offsets of t-1");
    }

    #[test]
    fn what_a_second_attempt_does_not_mend_is_said_at_once() {
        let refused = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
        check(refused, &[Ok(-1)], "Err(Refused(");
        check(RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION, &[Err(refused)], "Err(Refused(");
        check(RD_KAFKA_RESP_ERR_NO_ERROR, &[Ok(7), Err(refused)], "Err(Refused(");
    }
}
