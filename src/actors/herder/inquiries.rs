//! Answers that have to be fetched: from code of plug-ins, from Kafka. The herder does not wait for them.

use actix::prelude::*;
use connect_api::{FieldMap, Props, SourceOffset, SourcePartition, TopicPartition};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::answers::{connector_type, no_connector};
use super::units::answer;
use super::*;
use crate::actors::clients;
use crate::actors::handle::{ConnectorOffset, ConnectorOffsets, ConnectorType, HerderResult};
use crate::actors::validation;
use crate::backend::BackendError;
use crate::storage::offset_records::encode_offset;
use crate::storage::offset_store::OffsetError;
use crate::storage::records::with_values;

impl Herder {
    pub(super) fn inquire(&self, inquiry: HerderRequest, context: &mut Context<Self>) {
        let deps = self.deps.clone();
        match inquiry {
            // Neither needs Kafka, so both are answered while the worker starts.
            HerderRequest::Validate { plugin, config, reply } => {
                let validate = async move { answer(reply, validation::validate(&deps, &plugin, config).await) };
                context.spawn(validate.into_actor(self));
            }
            HerderRequest::PluginDefinition(plugin, version, reply) => {
                let define = async move {
                    answer(reply, validation::plugin_definition(&deps, &plugin, version.as_deref()).await);
                };
                context.spawn(define.into_actor(self));
            }
            HerderRequest::Offsets(name, reply) => self.offsets(&name, reply, context),
            // Everything else was answered before.
            _ => {}
        }
    }

    fn offsets(&self, name: &str, reply: Reply<ConnectorOffsets>, context: &mut Context<Self>) {
        let found = self.logs().and_then(|logs| {
            let connector = self.state.connector(name).ok_or_else(|| no_connector(name))?;
            Ok((logs.offsets.clone(), with_values(&connector.config)))
        });
        let (store, config) = match found {
            Ok(found) => found,
            Err(error) => return answer(reply, Err(error)),
        };
        let class = config.get("connector.class").cloned().unwrap_or_default();
        let (kind, deps, name) =
            (connector_type(&self.deps.registry, Some(&class)), self.deps.clone(), name.to_owned());
        let fetch = async move {
            let offsets = match kind {
                ConnectorType::Source => source_offsets(&*store, &name).await,
                ConnectorType::Sink => sink_offsets(&deps, &config).await,
                ConnectorType::Unknown => Err(HerderError::Internal(format!(
                    "the class {class:?} of connector {name} is not installed here, so nobody knows where its offsets are"
                ))),
            };
            answer(reply, offsets.map(|offsets| ConnectorOffsets { offsets }));
        };
        context.spawn(fetch.into_actor(self));
    }
}

async fn source_offsets(store: &dyn OffsetStore, connector: &str) -> HerderResult<Vec<ConnectorOffset>> {
    let all = store.all(connector).await.map_err(|error| offset_error(&error))?;
    let unshown = |reason: String| HerderError::Internal(format!("an offset of {connector} cannot be shown: {reason}"));
    let raw = |fields: &FieldMap| {
        let bytes = encode_offset(fields).map_err(unshown)?;
        let text = String::from_utf8(bytes.into()).map_err(|error| unshown(error.to_string()))?;
        RawValue::from_string(text).map_err(|error| unshown(error.to_string()))
    };
    let shown = |(partition, offset): &(SourcePartition, SourceOffset)| {
        Ok(ConnectorOffset { partition: raw(partition)?, offset: raw(offset)? })
    };
    all.iter().map(shown).collect()
}

/// Java: `SinkUtils.consumerGroupOffsetsToConnectorOffsets`.
async fn sink_offsets(deps: &Deps, config: &Props) -> HerderResult<Vec<ConnectorOffset>> {
    let client =
        clients::sink_consumer(&deps.config, config).map_err(|error| HerderError::Internal(error.to_string()))?;
    let committed = deps.backend.committed_offsets().all(&client.group).await;
    let mut committed = committed.map_err(|error| backend_error(&error, &client.group))?;
    committed.sort();
    let raw = |value: serde_json::Value| to_raw_value(&value).map_err(|error| HerderError::Internal(error.to_string()));
    let shown = |(partition, offset): &(TopicPartition, i64)| {
        Ok(ConnectorOffset {
            partition: raw(json!({"kafka_topic": &*partition.topic, "kafka_partition": partition.partition}))?,
            offset: raw(json!({"kafka_offset": offset}))?,
        })
    };
    committed.iter().map(shown).collect()
}

fn offset_error(error: &OffsetError) -> HerderError {
    let text = format!("the source offsets could not be read: {error}");
    if error.is_retriable() { HerderError::Unavailable(text) } else { HerderError::Internal(text) }
}

fn backend_error(error: &BackendError, group: &str) -> HerderError {
    let text = format!("the committed offsets of group {group} could not be read: {error}");
    if error.is_retriable() { HerderError::Unavailable(text) } else { HerderError::Internal(text) }
}
