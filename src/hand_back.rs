//! Gives the internal topics back to Java workers: takes away what only connect-node understands, and puts right what a Java worker
//! without exactly-once would read wrongly.
//!
//! A clean stop of the last worker leaves at most what was aborted in its last minute; this command proves it. After a crash it does what the
//! worker could not.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use connect_api::ConnectError;
use futures_util::future::join_all;

use crate::actors::clients;
use crate::actors::probe;
use crate::backend::{Backend, Isolation};
use crate::cluster::{Incarnation, Nonce};
use crate::config::WorkerConfig;
use crate::config::client_settings::ClientKind;
use crate::storage::cluster_state::MemberEntry;
use crate::storage::config_store::{ConfigStore, ConfigStoreSettings};
use crate::storage::topic_log::{CompareError, LogSettings};

/// Requests without an answer, in a row, after which a worker counts as dead.
const PROBE_ATTEMPTS: u32 = 3;

/// Between two of them.
const PROBE_INTERVAL: Duration = Duration::from_millis(100);

/// How long one request to the brokers, or one reading of the config topic, may take.
const BROKER_TIMEOUT: Duration = Duration::from_secs(30);

/// Attempts of each step when somebody else writes to the topic at the same time.
const ATTEMPTS: usize = 5;

/// Bytes of own records that may wait to be sent. Few and small ones are written.
const WRITER_MAX_BYTES: usize = 32 << 20;

/// Who removed a worker, in the header of its tombstone.
const SELF: &str = "connect-node leave --hand-back";

/// Prepares the topics of `config` for Java workers. `say` gets a sentence for everything that was found or done. An error says what has to
/// happen first; until then nothing that a living worker needs was changed.
pub async fn hand_back(backend: Arc<dyn Backend>, config: &WorkerConfig, say: &mut impl FnMut(String)) -> Result<()> {
    refuse_living_java(&*backend, &config.group_id).await?;
    let topic = &config.config_storage.name;
    let store = ConfigStore::open(backend.clone(), topic, store_settings(config)?).await?;
    say(format!("group {}: no Java worker is alive; {topic} was read to its end", config.group_id));
    remove_dead_workers(&store, say).await?;
    restate(&store, say).await?;
    check(&store).await?;
    refuse_living_java(&*backend, &config.group_id).await.context("a Java worker was started too early")?;
    let state = store.snapshot();
    let tasks: usize = state.connectors().map(|(name, _)| state.tasks(name).len()).sum();
    say(format!(
        "checked: {topic} names no worker of connect-node, and the last record of every key is a committed one; it holds {} and {}. \
         Java workers can be started",
        counted(state.connectors().len(), "connector"),
        counted(tasks, "task configuration"),
    ));
    Ok(())
}

/// As a worker opens the config topic.
fn store_settings(config: &WorkerConfig) -> Result<ConfigStoreSettings, ConnectError> {
    let writer = clients::internal(config, ClientKind::Producer)?;
    let reader = clients::internal(config, ClientKind::Consumer)?;
    let isolation = Isolation::ReadCommitted;
    Ok(ConfigStoreSettings {
        log: LogSettings { reader, writer: writer.clone(), writer_max_bytes: WRITER_MAX_BYTES, isolation },
        transactional_writer: writer,
        transactional_id: format!("connect-cluster-{}", config.group_id),
        writer: None,
    })
}

async fn refuse_living_java(backend: &dyn Backend, group: &str) -> Result<()> {
    let found = backend.admin().describe_group(group).await;
    let found = found.with_context(|| format!("group {group} cannot be described"))?;
    if let Some(found) = found.filter(|found| found.protocol_type == "connect" && found.members > 0) {
        let members = counted(found.members, "Java worker");
        bail!(
            "group {group} has {members} (state {}): the topics are theirs already; nothing was changed",
            found.state
        );
    }
    Ok(())
}

/// Writes the tombstones of all workers in the log, if none of them answers.
async fn remove_dead_workers(store: &ConfigStore, say: &mut impl FnMut(String)) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let state = store.snapshot();
        let members: Vec<_> = state.members().map(|(id, entry)| (id.to_owned(), entry.clone())).collect();
        refuse_living(&members).await?;
        // A transaction that a dead worker left open may hide a worker behind it.
        if store.release_blocked_readers(BROKER_TIMEOUT).await? {
            say("a worker died in the middle of a write: its transaction was aborted".into());
            store.log().read_to_end(BROKER_TIMEOUT).await?;
            continue;
        }
        if members.is_empty() && !state.turns_wait() {
            say("no record of a worker is left in the topic".into());
            return Ok(());
        }
        let lives: Vec<(String, Incarnation)> =
            members.iter().map(|(id, entry)| (id.clone(), entry.incarnation())).collect();
        let reason = "it did not answer when the topics were given back to Java";
        match store.remove_members(lives, SELF, reason).await {
            Ok(()) => {
                for (id, entry) in &members {
                    let url = &entry.record.rest_url;
                    say(format!("worker {id} had not left and does not answer at {url}: its record was removed"));
                }
                return Ok(());
            }
            // Whoever it is is asked in the next round.
            Err(CompareError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!("workers keep joining; stop them, then try again"))
}

async fn refuse_living(members: &[(String, Arc<MemberEntry>)]) -> Result<()> {
    let answers = join_all(members.iter().map(|(_, entry)| is_alive(&entry.record.rest_url, entry.record.nonce))).await;
    let living: Vec<_> = members.iter().zip(answers).filter(|(_, alive)| *alive).map(|(member, _)| member).collect();
    let names: Vec<_> = living.iter().map(|(id, entry)| format!("{id} ({})", entry.record.rest_url)).collect();
    ensure!(
        names.is_empty(),
        "still alive: {}. Stop it with SIGTERM first, which makes it leave by itself; nothing was changed",
        names.join(", ")
    );
    Ok(())
}

/// Whether the process that wrote the record answers.
async fn is_alive(url: &str, nonce: Nonce) -> bool {
    for attempt in 0..PROBE_ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(PROBE_INTERVAL).await;
        }
        if probe::lives(url, nonce).await {
            return true;
        }
    }
    false
}

/// Writes again what aborted records hide from a Java worker without exactly-once.
async fn restate(store: &ConfigStore, say: &mut impl FnMut(String)) -> Result<()> {
    for _ in 0..ATTEMPTS {
        let hidden = store.aborted_keys(BROKER_TIMEOUT).await?;
        if hidden.is_empty() {
            say("no aborted record is the last one of its key".into());
            return Ok(());
        }
        match store.restate_aborted(BROKER_TIMEOUT).await {
            Ok(count) => {
                let records = counted(count, "record");
                say(format!("aborted records were the last ones of {}: {records} written again", hidden.join(", ")));
                return Ok(());
            }
            Err(CompareError::Rejected(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(anyhow!("the topic is written to all the time; stop whoever does, then try again"))
}

/// Reads everything once more.
async fn check(store: &ConfigStore) -> Result<()> {
    store.log().read_to_end(BROKER_TIMEOUT).await?;
    let state = store.snapshot();
    let joined: Vec<_> = state.members().map(|(id, _)| id).collect();
    ensure!(joined.is_empty(), "{} joined meanwhile; stop it, then try again", joined.join(", "));
    let hidden = store.aborted_keys(BROKER_TIMEOUT).await?;
    ensure!(hidden.is_empty(), "aborted records hide {} again; somebody writes to the topic", hidden.join(", "));
    Ok(())
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests;
