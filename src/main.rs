//! The daemon: reads arguments and settings, starts a worker, runs it until a signal.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use connect_node::config::WorkerConfig;
use connect_node::node::Node;
use connect_node::plugins::Registry;
use connect_node::{logging, quickstart};

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
        /// The worker's settings, as Kafka Connect's connect-distributed.properties.
        worker_properties: PathBuf,
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
            let config = WorkerConfig::read(&worker_properties)
                .with_context(|| format!("the settings in {} cannot be used", worker_properties.display()))?;
            let node = Node::start(config, Registry::built_in())?;
            tracing::info!(url = node.url(), "REST API is listening");
            node.run_until_signal()
        }
        Command::Quickstart(arguments) => {
            // Its own lines are the interesting ones.
            logging::init(filter.as_deref().or(Some("warn")))?;
            quickstart::run(arguments)
        }
    }
}
