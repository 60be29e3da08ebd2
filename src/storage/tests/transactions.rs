//! A backend whose transactional writers are slow, or do not answer.

use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;

use super::*;
use crate::backend::{
    BackendError, CommittedOffsets, ProducerRecord, RecordReader, RecordWriter, Result, TopicAdmin, TopicPartition,
    TransactionalWriter,
};

/// So many commits say that they took too long, having been carried out or not.
pub struct Doubt {
    pub carried_out: bool,
    pub left: AtomicUsize,
}

pub struct Wrapped {
    pub inner: Arc<dyn Backend>,
    pub doubt: Option<Arc<Doubt>>,
    /// Each call of a transactional writer takes up to so much longer.
    pub delay: Duration,
}

impl Wrapped {
    pub fn new(inner: Arc<dyn Backend>) -> Wrapped {
        Wrapped { inner, doubt: None, delay: Duration::ZERO }
    }
}

#[async_trait]
impl Backend for Wrapped {
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>> {
        self.inner.writer(settings, max_bytes)
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>> {
        let inner = self.inner.transactional_writer(settings, id, timeout).await?;
        Ok(Arc::new(WrappedWriter { inner, doubt: self.doubt.clone(), delay: self.delay }))
    }

    fn reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        self.inner.reader(settings, isolation)
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        self.inner.committed_offsets()
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        self.inner.admin()
    }
}

struct WrappedWriter {
    inner: Arc<dyn TransactionalWriter>,
    doubt: Option<Arc<Doubt>>,
    delay: Duration,
}

impl WrappedWriter {
    async fn delay(&self) {
        tokio::time::sleep(self.delay.mul_f64(fastrand::f64())).await;
    }
}

#[async_trait]
impl TransactionalWriter for WrappedWriter {
    fn begin(&self) -> Result<()> {
        self.inner.begin()
    }

    async fn send(&self, records: &[ProducerRecord]) -> Result<Vec<(i32, i64)>> {
        self.delay().await;
        self.inner.send(records).await
    }

    async fn send_offsets(&self, group: &str, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.inner.send_offsets(group, offsets).await
    }

    async fn commit(&self, timeout: Duration) -> Result<()> {
        self.delay().await;
        if let Some(doubt) = &self.doubt
            && doubt.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        {
            if doubt.carried_out {
                self.inner.commit(timeout).await?;
            }
            return Err(BackendError::Retriable("no answer to the commit".into()));
        }
        self.inner.commit(timeout).await
    }

    async fn abort(&self, timeout: Duration) -> Result<()> {
        self.inner.abort(timeout).await
    }
}
