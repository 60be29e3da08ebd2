//! The daemon: reads arguments and settings, starts a worker, runs it until a signal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use connect_node::config::{WorkerConfig, environment};
use connect_node::node::Node;
use connect_node::plugins::Registry;
use connect_node::{logging, quickstart, standalone};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
        /// The worker's settings, as Kafka Connect's connect-distributed.properties. Variables like CONNECT_BOOTSTRAP_SERVERS win over
        /// them; without a file they are all.
        worker_properties: Option<PathBuf>,
    },
    /// Runs a worker without a group: connectors come from files, source offsets are kept in a file.
    Standalone {
        /// The worker's settings, as Kafka Connect's connect-standalone.properties.
        worker_properties: PathBuf,
        /// A connector each: properties, or JSON as for POST /connectors.
        connectors: Vec<PathBuf>,
    },
    /// Sends the lines of a file through a topic into another file, to show that it works.
    Quickstart(quickstart::Arguments),
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
            let config = WorkerConfig::load(worker_properties.as_deref(), &environment::variables())
                .context("the worker cannot start with these settings")?;
            let node = Node::start(config, Registry::built_in())?;
            tracing::info!(url = node.url(), "REST API is listening");
            node.run_until_signal()
        }
        Command::Standalone { worker_properties, connectors } => {
            logging::init(filter.as_deref())?;
            let (node, connectors) = standalone::start(&worker_properties, &connectors, Registry::built_in())?;
            node.run_until_signal()?;
            connectors.outcome()
        }
        Command::Quickstart(arguments) => {
            // Its own lines are the interesting ones.
            logging::init(filter.as_deref().or(Some("warn")))?;
            quickstart::run(arguments)
        }
    }
}
