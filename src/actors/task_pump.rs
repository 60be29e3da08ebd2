//! The pumps of tasks: what of the registry, the settings and the backend goes into them.

use std::sync::Arc;

use connect_api::{ConnectError, Props, SinkTask, SourceTask, SourceTaskContext};

use super::clients;
use super::deps::Deps;
use super::handle::ConnectorTaskId;
use super::lease::Lease;
use super::offset_committer::CommitTarget;
use super::prepared::{Channels, Prepared};
use super::pump;
use super::supervision::{self, Caught};
use crate::config::WorkerConfig;
use crate::config::worker::ConverterConfig;
use crate::metrics::TaskKind;
use crate::pipeline::{
    CommitSignal, Control, Converters, Delivery, Failure, Phase, Selection, SinkConverter, SinkPump, SinkState,
    SourceConverter, SourcePump, TopicTracker, Topics, TransformChain,
};
use crate::plugins::{PluginKind, Registry};
use crate::storage::offset_store::ConnectorOffsets;
use crate::storage::records::RawConfig;

/// Setting of a task's configuration: its class.
const TASK_CLASS: &str = "task.class";

/// What a task is made of.
pub struct TaskParts {
    /// Its name.
    pub id: ConnectorTaskId,
    /// Its own configuration.
    pub props: Props,
    /// Its connector's.
    pub connector_props: Props,
    /// How many tasks its set has.
    pub task_count: u32,
    /// Hears of the topics that it uses.
    pub topics: TopicTracker,
}

/// The task configurations as they stand in the config topic: what the connector said, with the class of the task and, for sinks,
/// the topics (Java: `AbstractHerder`/`Worker.connectorTaskConfigs`).
pub fn task_configs(registry: &Registry, connector: &Props, configs: &[Props]) -> Vec<RawConfig> {
    let class = connector.get("connector.class").map(String::as_str).unwrap_or_default();
    let task_class = registry.find(class).ok().and_then(|plugin| plugin.task_class);
    let complete = |config: &Props| {
        let mut raw: RawConfig = config.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect();
        raw.extend(task_class.map(|class| (TASK_CLASS.to_owned(), Some(class.to_owned()))));
        for topics in ["topics", "topics.regex"] {
            raw.extend(connector.get(topics).map(|value| (topics.to_owned(), Some(value.clone()))));
        }
        raw
    };
    configs.iter().map(complete).collect()
}

/// Everything up to the first callback. Converters and transformations are configured in the pump, since that is code of plug-ins.
pub fn prepare(
    parts: TaskParts,
    deps: &Arc<Deps>,
    offsets: Arc<ConnectorOffsets>,
    lease: &Lease,
    control: Control,
) -> Result<Prepared, Failure> {
    let configure = |error: &(dyn std::error::Error + 'static)| Failure::new(Phase::Configure, error);
    let class = parts.props.get(TASK_CLASS).map(String::as_str).unwrap_or_default();
    let plugin = deps.registry.find_task_class(class).map_err(|error| configure(&error))?;
    let made = |panic: supervision::Panic| panic.into_failure(Phase::Configure);
    match plugin.kind {
        PluginKind::Source(_, make) => {
            let task = supervision::catch(make).map_err(made)?;
            prepare_source(task, parts, deps, offsets, lease, control)
        }
        PluginKind::Sink(_, make) => {
            let task = supervision::catch(make).map_err(made)?;
            prepare_sink(task, parts, deps, control)
        }
        _ => Err(Failure::text(Phase::Configure, format!("{class} is no task"))),
    }
}

fn prepare_source(
    task: Box<dyn SourceTask>,
    parts: TaskParts,
    deps: &Arc<Deps>,
    offsets: Arc<ConnectorOffsets>,
    lease: &Lease,
    control: Control,
) -> Result<Prepared, Failure> {
    let TaskParts { id, props, connector_props, topics, .. } = parts;
    let registration = deps.metrics.register_task(&id.connector, id.task, TaskKind::Source);
    let metrics = registration.metrics();
    let client = clients::source_producer(&deps.config, &connector_props)
        .map_err(|error| Failure::new(Phase::Configure, &error))?;
    let backend = deps.backend.clone();
    let make_writer = Box::new(move || backend.writer(&client.settings, client.max_bytes));
    let delivery = Delivery::new(make_writer, metrics.clone())
        .map_err(|error| Failure::text(Phase::Configure, format!("no producer could be made: {error}")))?;
    let timeout = deps.config.offset_flush_timeout;
    let commit = CommitTarget::Source {
        delivery: delivery.clone(),
        offsets: offsets.clone(),
        timeout,
        metrics: metrics.clone(),
        lease: lease.clone(),
    };
    let channels = Channels::Source(delivery.clone());
    let blocking = task.blocking();
    let deps = deps.clone();
    let run = async move {
        control.phase.enter(Phase::Configure);
        let (chain, converters) = plugins(&deps.registry, &deps.config, &connector_props)?;
        let context = SourceTaskContext::new(offsets.clone());
        let converter = SourceConverter::new(chain, converters);
        let phase = control.phase.clone();
        let mut pump = SourcePump {
            task,
            context,
            props,
            converter,
            topics,
            delivery,
            offsets,
            flush_timeout: timeout,
            control,
            metrics,
        };
        let (worked, panicked) = match Caught(Box::pin(pump.work())).await {
            Ok(worked) => (worked, false),
            Err(panic) => (Err(pump::panicked(panic, &phase)), true),
        };
        pump.finish(worked, panicked).await
    };
    Ok(Prepared { blocking, run: Box::pin(run), channels, commit: Some(commit), registration: Some(registration) })
}

fn prepare_sink(
    task: Box<dyn SinkTask>,
    parts: TaskParts,
    deps: &Arc<Deps>,
    control: Control,
) -> Result<Prepared, Failure> {
    let TaskParts { id, props, connector_props, task_count, topics: tracker } = parts;
    let registration = deps.metrics.register_task(&id.connector, id.task, TaskKind::Sink);
    let metrics = registration.metrics();
    let client = clients::sink_consumer(&deps.config, &connector_props)
        .map_err(|error| Failure::new(Phase::Configure, &error))?;
    let topics = Topics::from_props(&connector_props).map_err(|error| Failure::new(Phase::Configure, &error))?;
    let selection = Arc::new(Selection::new(topics, id.task, task_count));
    let signal = Arc::<CommitSignal>::default();
    let commit = CommitTarget::Sink(signal.clone());
    let blocking = task.blocking();
    let deps = deps.clone();
    let run = async move {
        control.phase.enter(Phase::Configure);
        let (chain, converters) = plugins(&deps.registry, &deps.config, &connector_props)?;
        let reader = deps.backend.shared_reader(&client.settings, client.isolation);
        let reader =
            reader.map_err(|error| Failure::text(Phase::Configure, format!("no consumer could be made: {error}")))?;
        let pump = SinkPump {
            task,
            props,
            converter: SinkConverter::new(chain, converters),
            topics: tracker,
            reader,
            committed: deps.backend.committed_offsets(),
            group: client.group,
            reset: client.reset,
            max_poll_records: client.max_poll_records,
            admin: deps.backend.admin(),
            selection,
            refresh_interval: client.refresh_interval,
            commit: signal,
            commit_timeout: deps.config.offset_flush_timeout,
            control,
            metrics,
            state: SinkState::default(),
        };
        pump.run().await
    };
    Ok(Prepared {
        blocking,
        run: Box::pin(run),
        channels: Channels::Sink,
        commit: Some(commit),
        registration: Some(registration),
    })
}

/// Transformations and converters, configured. A converter that the connector does not name is the worker's, with the worker's
/// settings for it (Java: `Worker.startTask`).
fn plugins(
    registry: &Registry,
    worker: &WorkerConfig,
    connector: &Props,
) -> Result<(TransformChain, Converters), Failure> {
    let failed = |error: ConnectError| Failure::new(Phase::Configure, &error);
    let chain = TransformChain::from_props(
        connector,
        |class| match registry.find_transformation(class).ok()?.kind {
            PluginKind::Transformation(make) => Some(make()),
            _ => None,
        },
        |class| match registry.find_predicate(class).ok()?.kind {
            PluginKind::Predicate(make) => Some(make()),
            _ => None,
        },
    );
    let converter = |setting: &str, is_key| {
        let (class, settings) = converter_settings(
            if is_key { &worker.key_converter } else { &worker.value_converter },
            connector,
            setting,
        );
        let plugin = registry.find_converter(&class).map_err(|error| in_setting(setting, &error))?;
        let PluginKind::Converter(make) = plugin.kind else { return Err(in_setting(setting, &NoConverter)) };
        let mut converter = make();
        converter.configure(&settings, is_key)?;
        Ok(converter)
    };
    let header = || {
        let setting = "header.converter";
        let (class, settings) = converter_settings(&worker.header_converter, connector, setting);
        let plugin = registry.find_header_converter(&class).map_err(|error| in_setting(setting, &error))?;
        let PluginKind::HeaderConverter(make) = plugin.kind else { return Err(in_setting(setting, &NoConverter)) };
        let mut converter = make();
        converter.configure(&settings)?;
        Ok(converter)
    };
    let converters = Converters {
        key: converter("key.converter", true).map_err(failed)?,
        value: converter("value.converter", false).map_err(failed)?,
        header: header().map_err(failed)?,
    };
    Ok((chain.map_err(failed)?, converters))
}

#[derive(Debug, thiserror::Error)]
#[error("it is no converter")]
struct NoConverter;

fn in_setting(setting: &str, error: &dyn std::error::Error) -> ConnectError {
    ConnectError::config(format!("{setting}: {error}"))
}

/// Class and settings of a converter: from the connector if it names one, else the worker's.
fn converter_settings(worker: &ConverterConfig, connector: &Props, setting: &str) -> (String, Props) {
    let Some(class) = connector.get(setting) else { return (worker.class.clone(), worker.props.clone()) };
    let prefix = format!("{setting}.");
    let below =
        connector.iter().filter_map(|(name, value)| Some((name.strip_prefix(&prefix)?.to_owned(), value.clone())));
    (class.clone(), below.collect())
}
