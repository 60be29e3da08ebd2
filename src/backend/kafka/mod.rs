//! The traits over Kafka. The only room that names the Kafka client, librdkafka.
//!
//! `client_config`: what always holds for a client. `writer`: shared producers and their handles. `transactional`. `reader`. `admin`: topics,
//! groups, committed offsets. `native`: the calls of the C library, and all that is `unsafe`.

mod admin;
mod client_config;
mod native;
mod reader;
mod transactional;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;

use self::admin::KafkaAdmin;
use self::native::{Client, Kind};
use self::reader::KafkaReader;
use self::transactional::KafkaTransactionalWriter;
use self::writer::{KafkaWriter, Producer};
use super::inbox::lock;
use super::{
    Backend, BackendError, ClientSettings, CommittedOffsets, Isolation, RecordReader, RecordWriter, Result, TopicAdmin,
    TransactionalWriter,
};

/// Connects lazily to the brokers. `settings` are those that all clients have, unless a call overrides them.
pub fn open(bootstrap_servers: &str, settings: &ClientSettings) -> Result<Arc<dyn Backend>> {
    Ok(Arc::new(KafkaBackend::new(bootstrap_servers, settings)))
}

/// The client of all requests that are not about records: connections that no fetch holds up.
struct AdminClient {
    settings: ClientSettings,
    client: Mutex<Option<Client>>,
}

impl AdminClient {
    /// The client; a new one where there is none or it is stuck.
    fn get(&self) -> Result<Client> {
        let mut current = lock(&self.client);
        if let Some(client) = current.as_ref().filter(|client| !client.is_stuck()) {
            return Ok(client.clone());
        }
        let client = Client::new(Kind::Producer, &client_config::admin(&self.settings))?;
        if let Some(stuck) = current.replace(client.clone()) {
            // Freeing a client waits for its threads, which no caller here has time for. Where no thread can be had it is freed in place.
            if let Err(error) = std::thread::Builder::new().name("kafka-close".into()).spawn(move || drop(stuck)) {
                tracing::debug!("no thread to close a client: {error}");
            }
        }
        Ok(client)
    }

    /// Runs a call that blocks where it may.
    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Client) -> Result<T> + Send + 'static) -> Result<T> {
        let client = self.get()?;
        let done = tokio::task::spawn_blocking(move || call(&client)).await;
        done.map_err(|error| BackendError::Retriable(format!("a call of the client was cut short: {error}")))?
    }
}

/// A Kafka cluster.
struct KafkaBackend {
    settings: ClientSettings,
    producers: Mutex<HashMap<ClientSettings, Weak<Producer>>>,
    admin: Arc<AdminClient>,
}

impl KafkaBackend {
    fn new(bootstrap_servers: &str, settings: &ClientSettings) -> KafkaBackend {
        let mut settings = settings.clone();
        settings.insert("bootstrap.servers".into(), bootstrap_servers.into());
        let admin = Arc::new(AdminClient { settings: settings.clone(), client: Mutex::default() });
        KafkaBackend { settings, producers: Mutex::default(), admin }
    }

    /// The settings of all clients, with those of a call in front.
    fn merged(&self, settings: &ClientSettings) -> ClientSettings {
        client_config::over(&self.settings, settings)
    }

    /// The producer of these settings; a new one where there is none or it broke.
    fn producer(&self, settings: ClientSettings) -> Result<Arc<Producer>> {
        let mut producers = lock(&self.producers);
        producers.retain(|_, producer| producer.strong_count() > 0);
        let known = producers.get(&settings).and_then(Weak::upgrade);
        if let Some(producer) = known.filter(|producer| producer.fatal_error().is_none()) {
            return Ok(producer);
        }
        let producer = Producer::start(&settings)?;
        producers.insert(settings, Arc::downgrade(&producer));
        Ok(producer)
    }
}

#[async_trait]
impl Backend for KafkaBackend {
    fn writer(&self, settings: &ClientSettings, max_bytes: usize) -> Result<Arc<dyn RecordWriter>> {
        let producer = self.producer(client_config::producer(&self.merged(settings)))?;
        Ok(Arc::new(KafkaWriter::new(producer, max_bytes)?))
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> Result<Arc<dyn TransactionalWriter>> {
        let settings = client_config::transactional(&self.merged(settings), transactional_id);
        Ok(Arc::new(KafkaTransactionalWriter::open(&settings, transactional_id, timeout).await?))
    }

    fn reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        let settings = client_config::consumer(&self.merged(settings), isolation);
        Ok(Box::new(KafkaReader::new(&settings, isolation, Arc::clone(&self.admin))?))
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(KafkaAdmin { client: Arc::clone(&self.admin) })
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        Arc::new(KafkaAdmin { client: Arc::clone(&self.admin) })
    }
}
