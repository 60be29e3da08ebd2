//! The daemon: reads arguments and settings, starts a worker, runs it until a signal.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use connect_node::actors::clients;
use connect_node::backend::ClientSettings;
use connect_node::config::{WorkerConfig, environment};
use connect_node::node::Node;
use connect_node::plugins::Registry;
use connect_node::{backend, evict, hand_back, logging, quickstart, simulation, standalone, topics};

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
    /// Leaves the cluster on behalf of workers that could not: for going back to Java workers.
    Leave {
        /// Gives the topics back to Java workers: removes what dead workers left in the config topic. Refused while a worker lives.
        #[arg(long, required = true)]
        hand_back: bool,
        /// The worker's settings, as for `distributed`.
        worker_properties: Option<PathBuf>,
    },
    /// Removes a worker from its group that is dead or stuck: asks a living one to do it. One that lives joins again.
    Evict(evict::Arguments),
    /// Sends the lines of a file through a topic into another file, to show that it works.
    Quickstart(quickstart::Arguments),
    /// Looks into topics, also into those of a directory.
    Topics(topics::Arguments),
    /// Simulates workers over a log with everything going wrong that may, to show that they agree. Needs no Kafka.
    Simulate(simulation::Arguments),
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
            let config = read_config(worker_properties.as_deref())?;
            let node = Node::start(config, Registry::built_in())?;
            tracing::info!(url = node.url(), "REST API is listening");
            node.run_until_signal()
        }
        Command::Standalone { worker_properties, connectors } => {
            logging::init(filter.as_deref())?;
            let (node, connectors) = standalone::start(&worker_properties, &connectors, Registry::built_in())?;
            let ended = node.run_until_signal();
            // Why a connector is not there is why the worker ended.
            connectors.outcome().and(ended)
        }
        Command::Leave { hand_back: _, worker_properties } => {
            logging::init(filter.as_deref().or(Some("warn")))?;
            let config = read_config(worker_properties.as_deref())?;
            let backend = backend::open(&config.bootstrap_servers, &clients::connection(&config)?)?;
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            runtime.block_on(hand_back::hand_back(backend, &config, &mut |sentence| println!("{sentence}")))
        }
        Command::Evict(arguments) => {
            logging::init(filter.as_deref().or(Some("warn")))?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            println!("{}", runtime.block_on(evict::run(&arguments))?);
            Ok(())
        }
        Command::Quickstart(arguments) => {
            // Its own lines are the interesting ones.
            logging::init(filter.as_deref().or(Some("warn")))?;
            quickstart::run(arguments)
        }
        Command::Topics(arguments) => {
            logging::init(filter.as_deref().or(Some("warn")))?;
            arguments.check()?;
            let backend = backend::open(&arguments.bootstrap_servers, &ClientSettings::new())?;
            topics::run(backend, &arguments)
        }
        Command::Simulate(arguments) => simulation::run(&arguments),
    }
}

fn read_config(worker_properties: Option<&Path>) -> Result<WorkerConfig> {
    WorkerConfig::load(worker_properties, &environment::variables())
        .context("the worker cannot start with these settings")
}
