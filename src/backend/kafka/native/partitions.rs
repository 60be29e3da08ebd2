//! Lists of partitions.

use std::ptr::NonNull;

use connect_api::TopicPartition;
use rdkafka::bindings as rd;

use super::errors::error_of;
use super::{c_string, copied};
use crate::backend::{BackendError, Result};

/// A list of partitions with an offset each.
pub(in crate::backend::kafka) struct PartitionList(NonNull<rd::rd_kafka_topic_partition_list_t>);

// SAFETY: plain memory that nobody shares.
unsafe impl Send for PartitionList {}

impl PartitionList {
    pub(in crate::backend::kafka) fn new<'a>(
        partitions: impl IntoIterator<Item = (&'a TopicPartition, i64)>,
    ) -> Result<PartitionList> {
        // SAFETY: the call only allocates; the list grows by itself.
        let list = NonNull::new(unsafe { rd::rd_kafka_topic_partition_list_new(0) })
            .ok_or_else(|| BackendError::Retriable("no memory for a list of partitions".into()))?;
        let list = PartitionList(list);
        for (partition, offset) in partitions {
            let topic = c_string("the name of a topic", &partition.topic)?;
            // SAFETY: the list lives and copies the name; the element it returns lives until the next addition.
            unsafe {
                let element = rd::rd_kafka_topic_partition_list_add(list.ptr(), topic.as_ptr(), partition.partition);
                (*element).offset = offset;
            }
        }
        Ok(list)
    }

    pub(super) fn partitions(&self) -> Vec<TopicPartition> {
        self.elements().into_iter().map(|(partition, _)| partition).collect()
    }

    /// As [`elements`].
    pub(super) fn elements(&self) -> Vec<(TopicPartition, Result<i64, rd::rd_kafka_resp_err_t>)> {
        // SAFETY: the list lives.
        unsafe { elements(self.ptr()) }
    }

    pub(super) fn ptr(&self) -> *mut rd::rd_kafka_topic_partition_list_t {
        self.0.as_ptr()
    }

    /// The first error that a call left at an element.
    pub(super) fn first_error(&self, what: &str) -> Result<()> {
        self.elements().into_iter().try_for_each(|(partition, offset)| {
            offset.map(|_| ()).map_err(|code| error_of(code, &format!("{what} of {partition}"), ""))
        })
    }
}

impl Drop for PartitionList {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { rd::rd_kafka_topic_partition_list_destroy(self.ptr()) }
    }
}

/// Copies the elements of a list: offset or error code.
///
/// # Safety
/// `list` is null or a living list.
pub(super) unsafe fn elements(
    list: *const rd::rd_kafka_topic_partition_list_t,
) -> Vec<(TopicPartition, Result<i64, rd::rd_kafka_resp_err_t>)> {
    if list.is_null() {
        return Vec::new();
    }
    // SAFETY: the list lives and has `cnt` elements.
    unsafe {
        (0..(*list).cnt as usize)
            .map(|at| {
                let element = &*(*list).elems.add(at);
                let partition = TopicPartition::new(copied(element.topic), element.partition);
                match element.err {
                    rd::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR => (partition, Ok(element.offset)),
                    code => (partition, Err(code)),
                }
            })
            .collect()
    }
}
