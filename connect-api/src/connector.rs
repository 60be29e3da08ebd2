//! Connectors: they split the work into tasks and watch what they read from or write to.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;

use crate::config_def::{ConfigDef, ConfigValue};
use crate::errors::{ConnectError, Result};
use crate::offsets::{OffsetStorageReader, SourceOffset, SourcePartition};
use crate::record::TopicPartition;

/// A configuration as the user wrote it: every value is text, and is trimmed and parsed by [`ConfigDef`].
pub type Props = BTreeMap<String, String>;

/// What a connector may ask of the runtime; cheap to clone and usable from any thread or task of the plug-in.
#[derive(Clone)]
pub struct ConnectorContext {
    runtime: Arc<dyn ConnectorRuntime>,
}

/// The runtime's side of [`ConnectorContext`]; plug-ins do not implement it.
pub trait ConnectorRuntime: Send + Sync {
    /// See [`ConnectorContext::request_task_reconfiguration`].
    fn request_task_reconfiguration(&self);
    /// See [`ConnectorContext::raise_error`].
    fn raise_error(&self, error: ConnectError);
    /// See [`ConnectorContext::offset_storage_reader`].
    fn offset_storage_reader(&self) -> Arc<dyn OffsetStorageReader>;
}

impl ConnectorContext {
    /// Wraps the runtime's side.
    pub fn new(runtime: Arc<dyn ConnectorRuntime>) -> Self {
        ConnectorContext { runtime }
    }

    /// Asks that [`Connector::task_configs`] be called again, for example because a table appeared. Returns at once;
    /// several requests may be answered by one call. (Java: `ConnectorContext.requestTaskReconfiguration`.)
    pub fn request_task_reconfiguration(&self) {
        self.runtime.request_task_reconfiguration();
    }

    /// Reports that the connector cannot go on: it becomes FAILED with this error, its tasks keep running.
    /// (Java: `ConnectorContext.raiseError`.)
    pub fn raise_error(&self, error: ConnectError) {
        self.runtime.raise_error(error);
    }

    /// Reads the committed source offsets of this connector (Java: `SourceConnectorContext.offsetStorageReader`).
    pub fn offset_storage_reader(&self) -> Arc<dyn OffsetStorageReader> {
        self.runtime.offset_storage_reader()
    }
}

/// What source and sink connectors have in common. The runtime makes a fresh value for every start and never
/// starts one a second time.
#[async_trait]
pub trait Connector: Send {
    /// The settings of this connector, without those that all connectors share.
    fn config(&self) -> ConfigDef;

    /// Checks a configuration and returns one value for each setting. The default is what [`Connector::config`]
    /// says; override it to check settings against each other.
    fn validate(&self, props: &Props) -> Vec<ConfigValue> {
        self.config().validate(props)
    }

    /// Whether callbacks block their thread. Such a plug-in gets a named thread of its own; all others cost a future.
    fn blocking(&self) -> bool {
        false
    }

    /// Called once before anything else. Must not wait for the outside world longer than needed to know whether the
    /// configuration can work.
    async fn start(&mut self, context: ConnectorContext, props: Props) -> Result<()>;

    /// The configurations of at most `tasks_max` tasks. Called after `start`, after a request for reconfiguration and
    /// on resume. Equal answers must be equal in content: a changed one restarts the tasks.
    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>>;

    /// Called once at the end, also after an error of another callback.
    async fn stop(&mut self) -> Result<()>;
}

/// Whether a source connector can deliver each record exactly once (Java: `ExactlyOnceSupport`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ExactlyOnceSupport {
    /// Its offsets say where it really read: with `exactly.once.support` required it may run.
    Supported,
    /// Not with this configuration.
    Unsupported,
    /// It does not say; `required` is then refused, as in Java.
    Unknown,
}

/// One source partition and the offset that a user wants for it; `None` removes it.
pub type SourceOffsetChange = (Option<SourcePartition>, Option<SourceOffset>);

/// A connector whose tasks read from elsewhere.
#[async_trait]
pub trait SourceConnector: Connector {
    /// Whether each record is delivered exactly once with this configuration. Asked before `start`.
    fn exactly_once_support(&self, _props: &Props) -> ExactlyOnceSupport {
        ExactlyOnceSupport::Unknown
    }

    /// Whether the tasks can say where transactions end (`transaction.boundary=connector`). Asked before `start`.
    fn can_define_transaction_boundaries(&self, _props: &Props) -> bool {
        false
    }

    /// A user changes offsets while the connector is stopped; it is not started for this call. An error refuses the
    /// change. False says that the connector did not look at it; the change is then written all the same.
    async fn alter_offsets(&mut self, _props: &Props, _offsets: &[SourceOffsetChange]) -> Result<bool> {
        Ok(false)
    }
}

/// A connector whose tasks write to elsewhere.
#[async_trait]
pub trait SinkConnector: Connector {
    /// The same as [`SourceConnector::alter_offsets`] for the offsets of the consumer group.
    async fn alter_offsets(
        &mut self,
        _props: &Props,
        _offsets: &BTreeMap<TopicPartition, Option<i64>>,
    ) -> Result<bool> {
        Ok(false)
    }
}
