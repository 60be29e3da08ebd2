//! Writes configurations of connectors: the one transaction that all of create, PUT and PATCH end in, and the rounds of a PATCH.

use std::sync::{Mutex, PoisonError};

use actix::prelude::*;

use super::answers::{connector_type, no_connector};
use super::requests::not_written;
use super::units::answer;
use super::*;
use crate::actors::handle::{ConnectorInfo, ConnectorTaskId, HerderResult, Precondition, TargetState};
use crate::actors::validation;
use crate::plugins::Registry;
use crate::storage::config_records::ConfigRecord;
use crate::storage::plan;
use crate::storage::records::{RawConfig, with_values};
use crate::storage::topic_log::CompareError;

/// How often a merged configuration is checked anew since the one that it was merged with has changed meanwhile. Of many that change the same connector
/// at once one gets through each time, so this is about how many may.
pub(super) const MERGES_MAX: u32 = 32;

/// A configuration that was written.
pub(super) struct Written {
    /// There was none before.
    pub new: bool,
    /// The offset of its record.
    offset: i64,
    config: RawConfig,
}

/// Writes the configuration that `wanted` makes of the state, with an initial state where it is new. The last one that it made is the one
/// that was committed.
pub(super) async fn write_config<E: Send + 'static>(
    store: &ConfigStore,
    name: &str,
    mut wanted: impl FnMut(&ClusterState) -> Result<(RawConfig, Option<TargetState>), E> + Send + 'static,
) -> Result<Written, CompareError<E>> {
    let planned = Arc::new(Mutex::new(None));
    let check = {
        let (planned, name) = (planned.clone(), name.to_owned());
        move |state: &ClusterState| {
            let (config, initial) = wanted(state)?;
            let new = state.connector(&name).is_none();
            let records = plan::put_connector(state, &name, config.clone(), initial);
            let place = records.iter().take_while(|record| !matches!(record, ConfigRecord::Connector(..))).count();
            *planned.lock().unwrap_or_else(PoisonError::into_inner) = Some((new, place, config));
            Ok(records)
        }
    };
    let offsets = store.put(check).await?;
    let planned = planned.lock().unwrap_or_else(PoisonError::into_inner).take();
    let (new, place, config) = planned.expect("the check ran before the commit did");
    // Each record that was planned was written, in this order.
    Ok(Written { new, offset: offsets.get(place).copied().unwrap_or(-1), config })
}

impl Written {
    /// The connector as REST shows it: what was written, whatever came behind it meanwhile. Its tasks are those that are known, which a new
    /// one has none of.
    pub(super) fn info(self, registry: &Registry, state: &ClusterState, name: &str) -> ConnectorInfo {
        let tasks = if self.new { 0 } else { state.tasks(name).len() as u32 };
        let config = with_values(&self.config);
        ConnectorInfo {
            name: name.to_owned(),
            tasks: (0..tasks).map(|task| ConnectorTaskId { connector: name.to_owned(), task }).collect(),
            connector_type: connector_type(registry, config.get("connector.class").map(String::as_str)),
            config,
            version: self.offset,
        }
    }
}

/// A PATCH on its way.
pub(super) struct Patch {
    pub name: String,
    /// `None` removes a setting.
    pub changes: RawConfig,
    pub precondition: Precondition,
    pub reply: Reply<ConnectorInfo>,
    /// The last merged configuration that was checked, and what came of it.
    pub checked: Option<(RawConfig, HerderResult<()>)>,
    /// How many were checked.
    pub merges: u32,
}

/// Why a merged configuration was not written.
#[derive(Debug, thiserror::Error)]
enum NotPatched {
    #[error("{0}")]
    Refused(HerderError),
    /// The merged configuration is this one now.
    #[error("the merged configuration was not checked")]
    Unchecked(RawConfig),
}

/// Settings with changes (Java: `ConnectUtils.patchConfig`).
fn merged(config: &RawConfig, changes: &RawConfig) -> RawConfig {
    let mut merged = config.clone();
    for (setting, value) in changes {
        match value {
            Some(_) => _ = merged.insert(setting.clone(), value.clone()),
            None => _ = merged.remove(setting),
        }
    }
    merged
}

impl Patch {
    /// Whether the merged configuration of this state may be written. What is refused is so for what is in the log, not for what this worker
    /// believed to be there.
    fn decide(
        state: &ClusterState,
        name: &str,
        changes: &RawConfig,
        precondition: &Precondition,
        checked: Option<&(RawConfig, HerderResult<()>)>,
    ) -> Result<RawConfig, NotPatched> {
        let present = state.connector(name);
        precondition.check(name, present.map(|entry| entry.offset)).map_err(NotPatched::Refused)?;
        let present = present.ok_or_else(|| NotPatched::Refused(no_connector(name)))?;
        let merged = merged(&present.config, changes);
        match checked {
            Some((config, outcome)) if *config == merged => {
                outcome.clone().map_err(NotPatched::Refused).map(|()| merged)
            }
            _ => Err(NotPatched::Unchecked(merged)),
        }
    }
}

impl Herder {
    /// Merges and checks, which is code of the plug-in and may take long, merges again in the transaction, and writes where that comes to what was
    /// checked. Else again.
    pub(super) fn patch(&mut self, patch: Patch, context: &mut Context<Self>) {
        match self.state.connector(&patch.name) {
            Some(entry) => {
                let merged = merged(&entry.config, &patch.changes);
                self.check_merged(patch, merged, context);
            }
            // This worker may not have read of it yet.
            None => self.write_merged(patch, context),
        }
    }

    fn check_merged(&mut self, patch: Patch, merged: RawConfig, context: &mut Context<Self>) {
        // Nobody waits for it any more: it would come as a surprise.
        if patch.reply.is_closed() {
            return;
        }
        if patch.merges == MERGES_MAX {
            let message = format!(
                "Connector {} changed {MERGES_MAX} times while its changed configuration was being checked; try again",
                patch.name
            );
            return answer(patch.reply, Err(HerderError::Conflict(message)));
        }
        let deps = self.deps.clone();
        let check = async move { (validation::check(&deps, merged.clone()).await.map(drop), merged) };
        context.spawn(check.into_actor(self).map(move |(outcome, merged), herder, context| {
            let checked = Some((merged, outcome));
            herder.write_merged(Patch { checked, merges: patch.merges + 1, ..patch }, context);
        }));
    }

    pub(super) fn write_merged(&mut self, patch: Patch, context: &mut Context<Self>) {
        let logs = match self.logs() {
            Ok(logs) => logs.clone(),
            Err(error) => return answer(patch.reply, Err(error)),
        };
        let registry = self.deps.registry.clone();
        let Patch { name, changes, precondition, checked, .. } = &patch;
        let (name, changes, precondition, checked) =
            (name.clone(), changes.clone(), precondition.clone(), checked.clone());
        let write = async move {
            let wanted = {
                let name = name.clone();
                move |state: &ClusterState| {
                    let decided = Patch::decide(state, &name, &changes, &precondition, checked.as_ref());
                    decided.map(|config| (config, None))
                }
            };
            match write_config(&logs.config, &name, wanted).await {
                Ok(written) => Ok(Ok(written.info(&registry, &logs.config.snapshot(), &name))),
                Err(CompareError::Rejected(NotPatched::Unchecked(merged))) => Ok(Err(merged)),
                Err(CompareError::Rejected(NotPatched::Refused(error))) => Err(error),
                Err(error) => Err(not_written(error)),
            }
        };
        self.spawn_checked(write, context, move |result, herder, context| match result {
            Ok(Ok(info)) => answer(patch.reply, Ok(info)),
            Ok(Err(merged)) => herder.check_merged(patch, merged, context),
            Err(error) => answer(patch.reply, Err(error)),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merging_sets_replaces_and_removes() {
        let settings = |pairs: &[(&str, Option<&str>)]| -> RawConfig {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
        };
        let config = settings(&[("a", Some("1")), ("b", Some("2")), ("n", None)]);
        let changes = settings(&[("b", Some("3")), ("a", None), ("c", Some("4")), ("none", None)]);
        assert_eq!(merged(&config, &changes), settings(&[("b", Some("3")), ("c", Some("4")), ("n", None)]));
        assert_eq!(merged(&config, &settings(&[])), config);
    }
}
