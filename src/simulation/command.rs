//! The command line of the simulator.

use std::time::Instant;

use anyhow::{Result, bail};

use super::rules::Switches;
use super::{Setup, simulate_many, tell};

/// What to simulate.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The history; with --seeds, the first of them. The same seed of the same version is the same history.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Workers that run; one more may join at the end.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=10))]
    workers: u8,
    /// Connectors and tasks at most.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(u16).range(4..=200))]
    units: u16,
    /// How many histories, in a row.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: u64,
    /// Print the history also when nothing is wrong with it; of one seed.
    #[arg(long, conflicts_with = "seeds")]
    history: bool,
}

/// Prints figures, or the history of the first seed that fails, which is an error.
pub fn run(arguments: &Arguments) -> Result<()> {
    let setup = Setup::new(arguments.workers.into(), arguments.units.into());
    let begin = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if arguments.seeds == 1 { 1 } else { threads };
    let (figures, result) = simulate_many(arguments.seed, arguments.seeds, threads, setup, Switches::ALL, |_| true);
    println!("{figures}");
    let ran = result.as_ref().err().map_or(arguments.seeds, |(seed, _)| seed - arguments.seed + 1);
    println!("{ran} histories in {:.1} s", begin.elapsed().as_secs_f64());
    if let Err((seed, failure)) = result {
        print!("{}", tell(seed, setup, Switches::ALL));
        bail!("seed {seed} fails: {failure}");
    }
    if arguments.history {
        print!("{}", tell(arguments.seed, setup, Switches::ALL));
    }
    Ok(())
}
