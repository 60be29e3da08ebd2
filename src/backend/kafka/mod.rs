//! The traits over Kafka. The only room that names the Kafka client, librdkafka.
//!
//! `client_config`: what always holds for a client. `writer`: shared producers and their handles. `transactional`. `reader`, over an `intake`: a
//! consumer of its own or, as `legs` on them, those of a `pool`; `catch_up`: when it leaves that. `asker`: what it asks leaders. `admin`: topics, groups,
//! committed offsets.
//! `closing`: the end of clients. `native`: the calls of the C library, and all that is `unsafe`.

mod admin;
mod asker;
mod catch_up;
mod client_config;
mod closing;
mod intake;
mod legs;
mod native;
mod pool;
mod reader;
mod transactional;
mod writer;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot};

use self::admin::KafkaAdmin;
use self::asker::{Asker, SHARED_ASKS};
use self::closing::Closing;
use self::native::{Client, Kind};
use self::pool::Pool;
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

/// A client of requests that are not about records: connections that no fetch holds up.
struct AdminClient {
    settings: ClientSettings,
    client: Mutex<Option<Client>>,
}

impl AdminClient {
    /// Made at the first request. `settings` are those of all clients.
    fn new(settings: &ClientSettings, isolation: Isolation) -> Arc<AdminClient> {
        let settings = client_config::admin(settings, isolation);
        Arc::new(AdminClient { settings, client: Mutex::default() })
    }

    /// The client; a new one where there is none or it is stuck.
    fn get(&self) -> Result<Client> {
        let mut current = lock(&self.client);
        if let Some(client) = current.as_ref().filter(|client| !client.is_stuck()) {
            return Ok(client.clone());
        }
        let client = Client::new(Kind::Consumer, &self.settings)?;
        drop(current.replace(client.clone()).map(Closing::new));
        Ok(client)
    }

    /// Runs a call that blocks on a thread of its own. Not on one of the runtime's, whose end would wait for it: up to the time-out of the call, while
    /// the brokers are down.
    async fn blocking<T: Send + 'static>(&self, call: impl FnOnce(&Client) -> Result<T> + Send + 'static) -> Result<T> {
        let client = self.get()?;
        let (answer, answered) = oneshot::channel();
        std::thread::Builder::new()
            .name("kafka-call".into())
            // Nobody may wait any more.
            .spawn(move || drop(answer.send(call(&client))))
            .map_err(|error| BackendError::Retriable(format!("no thread for a call of the client: {error}")))?;
        answered.await.map_err(|_| BackendError::Retriable("a call of the client was cut short".into()))?
    }
}

/// A Kafka cluster.
struct KafkaBackend {
    settings: ClientSettings,
    producers: Mutex<HashMap<ClientSettings, Weak<Producer>>>,
    pools: Mutex<HashMap<ClientSettings, Weak<Pool>>>,
    /// For all requests, and for the ends of committed records.
    admin: Arc<AdminClient>,
    /// For the ends of all records: the isolation is one of the client and not of a request.
    uncommitted: Arc<AdminClient>,
    /// What readers ask that share clients.
    shared_asks: Arc<Semaphore>,
}

impl KafkaBackend {
    fn new(bootstrap_servers: &str, settings: &ClientSettings) -> KafkaBackend {
        let mut settings = settings.clone();
        settings.insert("bootstrap.servers".into(), bootstrap_servers.into());
        let admin = AdminClient::new(&settings, Isolation::ReadCommitted);
        let uncommitted = AdminClient::new(&settings, Isolation::ReadUncommitted);
        let shared_asks = Arc::new(Semaphore::new(SHARED_ASKS));
        let (producers, pools) = Default::default();
        KafkaBackend { settings, producers, pools, admin, uncommitted, shared_asks }
    }

    /// Who asks for the ends under an isolation, `turns` at a time.
    fn asker(&self, isolation: Isolation, turns: Arc<Semaphore>) -> Asker {
        let client = match isolation {
            Isolation::ReadCommitted => &self.admin,
            Isolation::ReadUncommitted => &self.uncommitted,
        };
        Asker::new(Arc::clone(client), turns)
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

    /// The consumers of these settings, which have an isolation among them.
    fn pool(&self, settings: ClientSettings) -> Arc<Pool> {
        let mut pools = lock(&self.pools);
        pools.retain(|_, pool| pool.strong_count() > 0);
        if let Some(pool) = pools.get(&settings).and_then(Weak::upgrade) {
            return pool;
        }
        let pool = Arc::new(Pool::new(settings.clone()));
        pools.insert(settings, Arc::downgrade(&pool));
        pool
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
        // Such readers are few, and one of them never waits for what others ask: the lease of a worker depends on its answers.
        let asker = self.asker(isolation, Arc::new(Semaphore::new(1)));
        Ok(Box::new(KafkaReader::new(&settings, asker)?))
    }

    fn shared_reader(&self, settings: &ClientSettings, isolation: Isolation) -> Result<Box<dyn RecordReader>> {
        let pool = self.pool(client_config::shared_consumer(&self.merged(settings), isolation));
        let asker = self.asker(isolation, Arc::clone(&self.shared_asks));
        Ok(Box::new(KafkaReader::shared(pool, asker)?))
    }

    fn committed_offsets(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(KafkaAdmin { client: Arc::clone(&self.admin) })
    }

    fn admin(&self) -> Arc<dyn TopicAdmin> {
        Arc::new(KafkaAdmin { client: Arc::clone(&self.admin) })
    }
}
