//! Transactions. All calls but `begin` block for as long as the brokers take.

use std::ptr::NonNull;
use std::time::Duration;

use connect_api::TopicPartition;
use rdkafka::bindings as rd;
use rdkafka::bindings::rd_kafka_resp_err_t as Code;

use super::client::Client;
use super::errors::take_error;
use super::partitions::PartitionList;
use super::{c_string, milliseconds};
use crate::backend::{BackendError, Result};

impl Client {
    pub(in crate::backend::kafka) fn init_transactions(&self, wait: Duration) -> Result<()> {
        // SAFETY: the client lives.
        let error = unsafe { rd::rd_kafka_init_transactions(self.ptr(), milliseconds(wait)) };
        // SAFETY: it is a living error object where it is not null.
        let code = (!error.is_null()).then(|| unsafe { rd::rd_kafka_error_code(error) });
        self.transactional(error, "init").map_err(|error| match code {
            Some(Code::RD_KAFKA_RESP_ERR_CONCURRENT_TRANSACTIONS) => BackendError::Fenced(error.to_string()),
            // The client takes it for fatal. That is only about itself: another one succeeds when the ACL is there.
            Some(Code::RD_KAFKA_RESP_ERR_TRANSACTIONAL_ID_AUTHORIZATION_FAILED) => {
                BackendError::TransactionalIdAuthorization(error.to_string())
            }
            _ => error,
        })
    }

    pub(in crate::backend::kafka) fn begin_transaction(&self) -> Result<()> {
        // SAFETY: the client lives.
        self.transactional(unsafe { rd::rd_kafka_begin_transaction(self.ptr()) }, "begin")
    }

    pub(in crate::backend::kafka) fn commit_transaction(&self, wait: Duration) -> Result<()> {
        // SAFETY: the client lives.
        self.transactional(unsafe { rd::rd_kafka_commit_transaction(self.ptr(), milliseconds(wait)) }, "commit")
    }

    pub(in crate::backend::kafka) fn abort_transaction(&self, wait: Duration) -> Result<()> {
        // SAFETY: the client lives.
        self.transactional(unsafe { rd::rd_kafka_abort_transaction(self.ptr(), milliseconds(wait)) }, "abort")
    }

    pub(in crate::backend::kafka) fn send_offsets_to_transaction(
        &self,
        group: &str,
        offsets: &[(TopicPartition, i64)],
        wait: Duration,
    ) -> Result<()> {
        let list = PartitionList::new(offsets.iter().map(|(partition, offset)| (partition, *offset)))?;
        let name = c_string("the name of a group", group)?;
        // SAFETY: the name lives and is copied; the metadata are freed once, behind their only use.
        let error = unsafe {
            let metadata = NonNull::new(rd::rd_kafka_consumer_group_metadata_new(name.as_ptr()))
                .ok_or_else(|| BackendError::Retriable("no memory for the metadata of a group".into()))?;
            let wait = milliseconds(wait);
            let error = rd::rd_kafka_send_offsets_to_transaction(self.ptr(), list.ptr(), metadata.as_ptr(), wait);
            rd::rd_kafka_consumer_group_metadata_destroy(metadata.as_ptr());
            error
        };
        self.transactional(error, "send offsets")
    }

    /// Takes the error of a transactional call. A fatal one says more about itself at the client.
    fn transactional(&self, error: *mut rd::rd_kafka_error_t, call: &str) -> Result<()> {
        // SAFETY: the error is ours and taken once.
        match unsafe { take_error(error, &format!("transaction: {call}")) } {
            None => Ok(()),
            Some(error @ BackendError::Fatal(_)) => Err(self.fatal_error().unwrap_or(error)),
            Some(error) => Err(error),
        }
    }
}
