//! The daemon: reads arguments and settings, starts a worker, waits for a signal.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use connect_node::config::WorkerConfig;
use connect_node::node::Node;
use connect_node::plugins::Registry;
use connect_node::{logging, quickstart, topics};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How often the daemon looks whether the worker has ended by itself.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// Kafka Connect without a JVM and without group coordination.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a worker that keeps everything in Kafka topics.
    Distributed {
        /// The worker's settings, as Kafka Connect's connect-distributed.properties.
        worker_properties: PathBuf,
    },
    /// Sends the lines of a file through a topic into another file, to show that it works.
    Quickstart(quickstart::Arguments),
    /// Looks into topics, also into those of a directory.
    Topics(topics::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("connect-node: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let filter = std::env::var(logging::FILTER_VARIABLE).ok();
    match command {
        Command::Distributed { worker_properties } => {
            logging::init(filter.as_deref())?;
            let config = WorkerConfig::read(&worker_properties)
                .with_context(|| format!("the settings in {} cannot be used", worker_properties.display()))?;
            let node = Node::start(config, Registry::built_in())?;
            tracing::info!(url = node.url(), "REST API is listening");
            until_signal_or_end(&node)?;
            node.shut_down();
            node.wait()
        }
        Command::Quickstart(arguments) => {
            // Its own lines are the interesting ones.
            logging::init(filter.as_deref().or(Some("warn")))?;
            quickstart::run(arguments)
        }
        Command::Topics(arguments) => {
            logging::init(filter.as_deref().or(Some("warn")))?;
            topics::run(&arguments)
        }
    }
}

/// Waits for SIGTERM, SIGINT or the end of the worker.
fn until_signal_or_end(node: &Node) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        loop {
            tokio::select! {
                _ = terminate.recv() => tracing::info!("SIGTERM: stopping"),
                _ = interrupt.recv() => tracing::info!("SIGINT: stopping"),
                _ = tokio::time::sleep(WATCH_INTERVAL) => {
                    if node.is_running() { continue }
                }
            }
            return Ok(());
        }
    })
}
