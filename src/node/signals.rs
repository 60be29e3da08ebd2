//! Runs a worker as a daemon does: until it ends by itself or a signal asks for its end, and then no longer than it is given.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::sleep;

use super::Node;
use crate::actors::shutdown::{LEFT_BEHIND, Shutdown};

/// How often is looked whether the worker has ended.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

/// How long the end may take beyond `task.shutdown.graceful.timeout.ms`, which is for the tasks: leaving the group takes some seconds
/// where Kafka is slow. Later than this something hangs.
const LAST_RESORT: Duration = Duration::from_secs(10);

impl Node {
    /// Waits until the worker ends by itself, or leaves in an orderly way after SIGTERM or SIGINT. An error, for which the process has to
    /// end with exit code 1: it ended by itself, could not leave in an orderly way, a second signal asked for an end at once, or the end
    /// takes more than 10 s beyond the graceful timeout.
    pub fn run_until_signal(self) -> Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let graceful = self.graceful;
        runtime.block_on(async {
            let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
            let next_signal = async || {
                tokio::select! {
                    _ = terminate.recv() => "SIGTERM",
                    _ = interrupt.recv() => "SIGINT",
                }
            };
            until_over(next_signal, || self.is_running(), &self.shutdown, graceful + LAST_RESORT).await
        })?;
        self.wait()
    }
}

/// Waits for the end of what `is_running`. The first signal asks for it, as others may; that begins `limit`. An error says why it is not
/// waited for any longer.
async fn until_over(
    mut next_signal: impl AsyncFnMut() -> &'static str,
    is_running: impl Fn() -> bool,
    shutdown: &Shutdown,
    limit: Duration,
) -> Result<()> {
    let overdue = async {
        shutdown.asked().await;
        sleep(limit).await;
    };
    tokio::pin!(overdue);
    let mut first: Option<&str> = None;
    while is_running() {
        tokio::select! {
            biased;
            signal = next_signal() => match first.replace(signal) {
                None => {
                    tracing::info!("{signal}: stopping; a second signal ends the process at once");
                    shutdown.ask();
                }
                Some(first) => bail!("{signal} after {first}: the process ends at once, before the worker has left. {LEFT_BEHIND}"),
            },
            _ = &mut overdue => bail!("the worker did not end within {} s and is given up. {LEFT_BEHIND}", limit.as_secs()),
            _ = sleep(WATCH_INTERVAL) => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;

    use tokio::time::{Instant, sleep_until};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(15);

    /// Signals at times from the beginning on, and for how long the worker runs on after it was told to end.
    async fn run(signals: &[(u64, &'static str)], takes: Duration) -> (Duration, Result<(), String>) {
        let shutdown = Shutdown::default();
        let (began, told) = (Instant::now(), Cell::new(None));
        let mut signals: VecDeque<_> = signals.iter().copied().collect();
        let next_signal = async || {
            let Some((at, signal)) = signals.front().copied() else { return std::future::pending().await };
            sleep_until(began + Duration::from_secs(at)).await;
            signals.pop_front();
            signal
        };
        let is_running = || {
            if told.get().is_none() && shutdown.asked_at().is_some() {
                told.set(Some(Instant::now()));
            }
            told.get().is_none_or(|told: Instant| told.elapsed() < takes)
        };
        let end = until_over(next_signal, is_running, &shutdown, LIMIT).await;
        (began.elapsed(), end.map_err(|error| error.to_string()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_signal_is_obeyed_and_the_second_ends_it_at_once() {
        let (time, end) = run(&[(5, "SIGTERM")], Duration::from_secs(3)).await;
        assert_eq!((time.as_secs(), end), (8, Ok(())));
        let (time, end) = run(&[(5, "SIGTERM"), (6, "SIGINT")], Duration::from_secs(3)).await;
        assert_eq!(time.as_secs(), 6);
        assert!(end.unwrap_err().starts_with("SIGINT after SIGTERM: "));
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_hangs_is_given_up() {
        let (time, end) = run(&[(5, "SIGINT")], Duration::MAX).await;
        assert_eq!(time.as_secs(), 20);
        assert!(end.unwrap_err().contains("did not end within 15 s"));
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_ends_by_itself_is_not_waited_for() {
        let end = until_over(async || std::future::pending().await, || false, &Shutdown::default(), LIMIT).await;
        assert!(end.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_that_no_signal_asked_for_has_the_same_limit() {
        let (shutdown, began) = (Shutdown::default(), Instant::now());
        shutdown.ask();
        let end = until_over(async || std::future::pending().await, || true, &shutdown, LIMIT).await;
        assert!(end.unwrap_err().to_string().contains("did not end within 15 s"));
        assert_eq!(began.elapsed().as_secs(), 15);
    }
}
