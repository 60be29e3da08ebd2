//! Pumps: where code of plug-ins runs. Never on an actor: a future on the pump runtime, or a named thread for a plug-in
//! that blocks. The end of a pump - a result, an error or a panic - is one message.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context as TaskContext, Poll};
use std::thread;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::{JoinHandle, block_in_place};
use tracing::Instrument;

use super::supervision::{Caught, Panic};
use crate::pipeline::{Failure, Phase, PhaseCell};

/// Threads of the pump runtime beyond the number of cores: as many pumps may block without saying so before the runtime
/// begins to replace the threads that they take.
const SPARE_THREADS: usize = 4;

/// The runtime of all pumps that are futures. Apart from those of actors and REST: whatever a plug-in does, these answer.
pub fn pump_runtime() -> std::io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    Builder::new_multi_thread().worker_threads(cores + SPARE_THREADS).thread_name("pump").enable_all().build()
}

/// Where pumps run.
#[derive(Clone)]
pub struct Pumps {
    runtime: Handle,
    /// How many pumps are polled at this moment. Those whose plug-in blocks stay in it, for ever where it never returns.
    polled: Arc<AtomicUsize>,
}

impl Pumps {
    /// On a runtime that [`pump_runtime`] made.
    pub fn new(runtime: Handle) -> Self {
        Pumps { runtime, polled: Arc::default() }
    }

    /// For code of plug-ins that is no pump.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// A pump that cannot starve the others. While few are polled at once, as is usual, this costs two additions. When so many are
/// that only a thread for each core is left, most of them hang, and the thread that polls one more is replaced beforehand.
struct Elastic<F> {
    pump: F,
    polled: Arc<AtomicUsize>,
}

impl<F: Future + Unpin> Future for Elastic<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<F::Output> {
        let polled = self.polled.fetch_add(1, Ordering::Relaxed);
        let pump = Pin::new(&mut self.pump);
        let poll = if polled < SPARE_THREADS { pump.poll(context) } else { block_in_place(|| pump.poll(context)) };
        self.polled.fetch_sub(1, Ordering::Relaxed);
        poll
    }
}

/// How a pump ended.
pub type PumpEnd = Result<(), Failure>;

/// A running pump.
pub enum Pump {
    /// A future; aborted at its next wait.
    Future(JoinHandle<()>),
    /// A thread; cannot be ended from outside.
    Thread,
}

impl Pump {
    /// Gives up on a pump that does not end. Its channels must be closed already. `true`: something of it may go on to run.
    pub fn abandon(&self) -> bool {
        match self {
            Pump::Future(handle) => {
                handle.abort();
                false
            }
            Pump::Thread => true,
        }
    }
}

/// Runs `future` as a pump; `ended` is called once, from the pump's thread, unless it is abandoned.
pub fn start(
    pumps: &Pumps,
    blocking: bool,
    name: &str,
    phase: Arc<PhaseCell>,
    future: impl Future<Output = PumpEnd> + Send + 'static,
    ended: impl FnOnce(PumpEnd) + Send + 'static,
) -> std::io::Result<Pump> {
    let span = tracing::Span::current();
    let guarded = async move {
        let end = match Caught(Box::pin(future)).await {
            Ok(end) => end,
            Err(panic) => Err(panicked(panic, &phase)),
        };
        ended(end);
    };
    if !blocking {
        let elastic = Elastic { pump: Box::pin(guarded.instrument(span)), polled: pumps.polled.clone() };
        return Ok(Pump::Future(pumps.runtime.spawn(elastic)));
    }
    let runtime = pumps.runtime.clone();
    // Linux shows the first 15 bytes of the name.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(guarded.instrument(span))));
    })?;
    Ok(Pump::Thread)
}

fn panicked(panic: Panic, phase: &PhaseCell) -> Failure {
    // The hook has logged the panic. What the pump failed of before is the news.
    if let Some(first) = phase.failure() {
        return first;
    }
    let (phase, _) = phase.current();
    // A panic outside of a callback is a bug of the runtime, and is named as what it was doing then.
    panic.into_failure(if phase == Phase::Idle { Phase::Configure } else { phase })
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn pumps_that_block_without_saying_so_do_not_starve_the_others() {
        let runtime = pump_runtime().unwrap();
        let pumps = Pumps::new(runtime.handle().clone());
        let start = |future: Pin<Box<dyn Future<Output = PumpEnd> + Send>>, ended: Box<dyn FnOnce(PumpEnd) + Send>| {
            super::start(&pumps, false, "pump", Arc::default(), future, ended).unwrap()
        };
        let hang = || async {
            loop {
                thread::park();
            }
        };
        for _ in 0..50 {
            start(Box::pin(hang()), Box::new(|_| unreachable!("it hangs")));
        }
        let (ends, ended) = mpsc::channel();
        for _ in 0..50 {
            let ends = ends.clone();
            let waits = async {
                // Timers have to go on as well.
                let waited = tokio::time::timeout(Duration::from_millis(1), std::future::pending::<()>()).await;
                assert!(waited.is_err());
                Ok(())
            };
            start(Box::pin(waits), Box::new(move |end| ends.send(end).unwrap()));
        }
        for _ in 0..50 {
            assert_eq!(ended.recv_timeout(Duration::from_secs(20)), Ok(Ok(())));
        }
        runtime.shutdown_background();
    }
}
