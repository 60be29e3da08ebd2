//! `connect-node standalone`: one worker without a group, with the connectors that the command line names.
//!
//! It is the same worker as a distributed one. What differs is where things are: connectors and states in memory, so that each start
//! begins with the files; source offsets in one file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use crate::actors::handle::{HerderError, HerderHandle, HerderRequest, TargetState};
use crate::actors::shutdown::Shutdown;
use crate::config::StandaloneConfig;
use crate::config::connector_file::{ConnectorFile, InitialState};
use crate::node::Node;
use crate::plugins::Registry;

/// How often the worker is asked again whether it is ready, or a connector has started.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The state of a connector that has neither started nor failed yet.
const UNASSIGNED: &str = "UNASSIGNED";
const FAILED: &str = "FAILED";

/// A connector, and the file that it comes from.
struct Wanted {
    file: PathBuf,
    name: String,
    connector: ConnectorFile,
}

/// The connectors of the command line, on their way to the worker.
pub struct Connectors {
    creation: JoinHandle<Result<()>>,
    shutdown: Shutdown,
}

impl Connectors {
    /// Why the connectors are not all there, once the worker has ended: it was ended for that reason. An end that somebody asked for is
    /// no error, even if it came before the last connector.
    pub fn outcome(self) -> Result<()> {
        // Where the worker ended by itself, nothing is created any more.
        self.shutdown.ask();
        self.creation.join().map_err(|_| anyhow!("the thread that creates the connectors panicked"))?
    }
}

/// Reads all files, starts the worker, and creates the connectors one after the other in the background, while REST answers already. The
/// first one that cannot be created ends the worker (Java: `ConnectStandalone`).
pub fn start(worker_properties: &Path, connector_files: &[PathBuf], registry: Registry) -> Result<(Node, Connectors)> {
    let config = StandaloneConfig::read(worker_properties)
        .with_context(|| format!("the settings in {} cannot be used", worker_properties.display()))?;
    let wanted = read_all(connector_files)?;
    let node = Node::start_standalone(config, registry)?;
    tracing::info!(url = node.url(), "REST API is listening");
    let (herder, shutdown) = (node.herder().clone(), node.shutdown());
    let asked = shutdown.clone();
    let creation = thread::Builder::new().name("connectors".into()).spawn(move || {
        let created = create_all(&herder, wanted, &asked);
        if let Err(error) = &created {
            tracing::error!(
                error = format!("{error:#}"),
                "the worker ends, since a connector of the command line is not there"
            );
            asked.ask();
        }
        created
    })?;
    Ok((node, Connectors { creation, shutdown }))
}

/// All files, before anything runs: one broken file must not leave the others half started.
fn read_all(files: &[PathBuf]) -> Result<Vec<Wanted>> {
    let mut wanted: Vec<Wanted> = Vec::new();
    let mut by_name: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files {
        let place = file.display();
        let connector = ConnectorFile::read(file)
            .map_err(|reason| anyhow!("the connector configuration {place} cannot be used: {reason}"))?;
        let name = connector.name.as_deref().map(str::trim).unwrap_or_default().to_owned();
        if name.is_empty() {
            bail!("the connector configuration {place} cannot be used: the name is empty");
        }
        if let Some(other) = by_name.insert(name.clone(), file.clone()) {
            bail!("the connector configurations {} and {place} have the same name {name:?}", other.display());
        }
        wanted.push(Wanted { file: file.clone(), name, connector });
    }
    Ok(wanted)
}

fn create_all(herder: &HerderHandle, wanted: Vec<Wanted>, shutdown: &Shutdown) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let create = async {
            for Wanted { file, name, connector } in wanted {
                let created = create(herder, &name, connector).await;
                created.with_context(|| format!("connector {name} of {} was not created", file.display()))?;
                tracing::info!(connector = name, file = %file.display(), "connector created");
            }
            Ok(())
        };
        tokio::select! {
            // What a worker that leaves answers is no error of a connector.
            biased;
            _ = shutdown.asked() => Ok(()),
            created = create => created,
        }
    })
}

/// Creates a connector and waits until it runs; one that fails at its start is none.
async fn create(herder: &HerderHandle, name: &str, connector: ConnectorFile) -> Result<()> {
    wait_until_ready(herder).await?;
    let initial_state = connector.initial_state.map(|state| match state {
        InitialState::Running => TargetState::Started,
        InitialState::Paused => TargetState::Paused,
        InitialState::Stopped => TargetState::Stopped,
    });
    let config = connector.config;
    let mut tried = false;
    loop {
        let (name, config) = (name.to_owned(), config.clone());
        match herder.ask(|reply| HerderRequest::Create { name, config, initial_state, reply }).await {
            Ok(_) => break,
            // An attempt whose answer was lost had made it.
            Err(HerderError::Conflict(_)) if tried => break,
            Err(error) if error.is_passing() => wait_until_ready(herder).await?,
            Err(error) => bail!(error),
        }
        tried = true;
    }
    while !has_started(herder, name).await? {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    Ok(())
}

/// Whether a connector that was created has started. One that was deleted over REST meanwhile is not waited for.
async fn has_started(herder: &HerderHandle, name: &str) -> Result<bool> {
    match herder.ask(|reply| HerderRequest::ConnectorStatus(name.to_owned(), reply)).await {
        Ok(status) if status.connector.state == FAILED => {
            bail!("it failed at its start: {}", status.connector.trace.unwrap_or_default())
        }
        Ok(status) => Ok(status.connector.state != UNASSIGNED),
        // It has no status yet, or is gone.
        Err(HerderError::NotFound(_)) => {
            let info = herder.ask(|reply| HerderRequest::ConnectorInfo(name.to_owned(), reply)).await;
            Ok(matches!(info, Err(HerderError::NotFound(_))))
        }
        Err(error) if error.is_passing() => Ok(false),
        Err(error) => bail!(error),
    }
}

/// Waits until the worker takes requests, which needs the brokers. It has no limit, as everywhere: the log says what is waited for, and
/// a signal ends it.
async fn wait_until_ready(herder: &HerderHandle) -> Result<()> {
    loop {
        tokio::time::sleep(LOOK_AGAIN).await;
        match herder.ask(HerderRequest::Health).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_passing() => {}
            Err(error) => bail!(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broken_file_and_a_name_that_comes_twice_are_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = |name: &str, content: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, content).expect("it can be written");
            path
        };
        let (one, two) = (file("one.properties", "name=x\n"), file("two.json", r#"{"name":"y"}"#));
        let names: Vec<_> = read_all(&[one.clone(), two]).unwrap().into_iter().map(|wanted| wanted.name).collect();
        assert_eq!(names, ["x", "y"]);
        for (bad, words) in [
            (file("bad.json", "{"), ["bad.json", "JSON"]),
            (file("same.json", r#"{"name":" x ","config":{}}"#), ["one.properties", "same.json"]),
            (file("nameless.json", r#"{"config":{}}"#), ["nameless.json", "name is empty"]),
            (directory.path().join("absent"), ["absent", "No such file"]),
        ] {
            let error = read_all(&[one.clone(), bad]).err().expect("it is refused").to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
