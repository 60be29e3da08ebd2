//! A backend whose transactional writers are slow, or do not answer, and whose readers lag.

use std::sync::atomic::{AtomicBool, AtomicUsize};

use async_trait::async_trait;

use super::*;
use crate::backend::{
    BackendError, CommittedOffsets, ProducerRecord, ReadBatch, RecordReader, RecordWriter, Result, StartOffset,
    TopicAdmin, TopicPartition, TransactionalWriter,
};

/// So many commits say that they took too long, having been carried out or not.
pub struct Doubt {
    pub carried_out: bool,
    pub left: AtomicUsize,
    /// The client has asked for the commit again, and by then somebody had taken the id.
    pub fenced: bool,
}

pub struct Wrapped {
    pub inner: Arc<dyn Backend>,
    pub doubt: Option<Arc<Doubt>>,
    /// Each call of a transactional writer takes up to so much longer.
    pub delay: Duration,
    /// Each read takes so much longer.
    pub read_delay: Duration,
    /// To take an id over takes so much longer.
    pub take_over_delay: Duration,
    /// The principal may not use any id.
    pub refuses: Arc<AtomicBool>,
    /// Counts how often an id was taken over.
    pub taken_over: Arc<AtomicUsize>,
}

impl Wrapped {
    pub fn new(inner: Arc<dyn Backend>) -> Wrapped {
        Wrapped {
            inner,
            doubt: None,
            delay: Duration::ZERO,
            read_delay: Duration::ZERO,
            take_over_delay: Duration::ZERO,
            refuses: Arc::default(),
            taken_over: Arc::default(),
        }
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
        if self.refuses.load(Ordering::Relaxed) {
            return Err(BackendError::TransactionalIdAuthorization("no".into()));
        }
        tokio::time::sleep(self.take_over_delay).await;
        self.taken_over.fetch_add(1, Ordering::Relaxed);
        let inner = self.inner.transactional_writer(settings, id, timeout).await?;
        Ok(Arc::new(WrappedWriter { inner, doubt: self.doubt.clone(), delay: self.delay }))
    }

    fn reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        let inner = self.inner.reader(settings, isolation)?.into();
        Ok(Box::new(LaggingReader { inner, delay: self.read_delay }))
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        self.inner.committed_offsets()
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        self.inner.admin()
    }
}

struct LaggingReader {
    /// A reader may be sent to another thread, but not shared; two of its calls share it all the same.
    inner: tokio::sync::Mutex<Box<dyn RecordReader>>,
    delay: Duration,
}

#[async_trait]
impl RecordReader for LaggingReader {
    fn assign(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        self.inner.get_mut().assign(partitions)
    }

    fn add(&mut self, partitions: &[(TopicPartition, StartOffset)]) -> Result<()> {
        self.inner.get_mut().add(partitions)
    }

    fn remove(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.get_mut().remove(partitions)
    }

    fn pause(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.get_mut().pause(partitions)
    }

    fn resume(&mut self, partitions: &[TopicPartition]) -> Result<()> {
        self.inner.get_mut().resume(partitions)
    }

    async fn seek(&mut self, offsets: &[(TopicPartition, i64)]) -> Result<()> {
        self.inner.get_mut().seek(offsets).await
    }

    async fn read(&mut self, batch: &mut ReadBatch, max_records: usize, max_wait: Duration) -> Result<()> {
        tokio::time::sleep(self.delay).await;
        self.inner.get_mut().read(batch, max_records, max_wait).await
    }

    fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.inner.try_lock().ok()?.position(partition)
    }

    async fn end_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        self.inner.lock().await.end_offsets(partitions, timeout).await
    }

    async fn beginning_offsets(&self, partitions: &[TopicPartition], timeout: Duration) -> Result<Vec<i64>> {
        self.inner.lock().await.beginning_offsets(partitions, timeout).await
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
            return Err(match doubt.fenced {
                true => BackendError::Fenced("no answer to the commit, and another one has the id".into()),
                false => BackendError::Retriable("no answer to the commit".into()),
            });
        }
        self.inner.commit(timeout).await
    }

    async fn abort(&self, timeout: Duration) -> Result<()> {
        self.inner.abort(timeout).await
    }
}
