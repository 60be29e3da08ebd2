//! Pumps: where code of plug-ins runs. Never on an actor: a future on the pump runtime, or a named thread for a plug-in
//! that blocks. The end of a pump - a result, an error or a panic - is one message.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinHandle, block_in_place};
use tracing::Instrument;

use super::supervision::{self, Caught, Panic};
use crate::metrics::Metrics;
use crate::pipeline::{Failure, Phase, PhaseCell};

/// Threads of the pump runtime beyond the number of cores: as many pumps may block without saying so before the runtime
/// begins to replace the threads that they take.
const SPARE_THREADS: usize = 4;

/// Threads of the pump runtime that are free for timers and other pumps, or are replaced before a pump takes them.
const FREE_THREADS: usize = 2;

/// How long none of the pumps that are polled may come back before they are taken to hang. As long as some do, they work off what there is. Longer
/// than a thread may have to wait for a core on a busy machine: where a thousand tasks start at once, hundreds of threads would be made for nothing.
const REPLACE_AFTER: Duration = Duration::from_millis(50);

/// Between two looks while it waits so.
const LOOK: Duration = Duration::from_micros(250);

fn worker_threads() -> usize {
    thread::available_parallelism().map_or(1, usize::from) + SPARE_THREADS
}

/// The runtime of all pumps that are futures. Apart from those of actors and REST: whatever a plug-in does, these answer.
pub fn pump_runtime() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(worker_threads()).thread_name("pump").enable_all().build()
}

/// How many pumps may be polled at the same time: as many as there are threads that are not kept free, and as many again as hang.
struct Threads {
    count: usize,
    /// How many pumps are polled at this moment. Those whose plug-in blocks stay in it, for ever where it never returns.
    polling: AtomicUsize,
    /// How many of them are taken to hang. Further ones may be polled instead, on threads that are replaced beforehand.
    hanging: AtomicUsize,
    /// How often one came back.
    returns: AtomicUsize,
}

/// On which thread a pump is polled.
#[derive(Debug, PartialEq, Eq)]
enum Place {
    /// On the one that it came on.
    Here,
    /// On the same, but the runtime needs another one meanwhile: all that are not kept free are in use.
    Replaced,
}

/// Of a pump that waits for its place: since when how many had come back.
struct Patience {
    since: Instant,
    returns: usize,
}

impl Patience {
    /// Whether none has come back for too long. A thread that does takes the next pump at once, so who waits may never see a place free.
    fn is_over(&mut self, now: Instant, returns: usize) -> bool {
        if returns != self.returns {
            *self = Patience { since: now, returns };
        }
        now.saturating_duration_since(self.since) >= REPLACE_AFTER
    }
}

impl Threads {
    fn new(count: usize) -> Self {
        let [polling, hanging, returns] = [(); 3].map(|()| AtomicUsize::new(0));
        Threads { count, polling, hanging, returns }
    }

    /// A place, until [`Threads::leave`], if there is one.
    fn try_enter(&self) -> Option<Place> {
        let places = self.count + self.hanging.load(Ordering::Acquire);
        let one_more = |polling| (polling < places).then_some(polling + 1);
        let before = self.polling.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(if before < self.count { Place::Here } else { Place::Replaced })
    }

    /// The same, but waits for one.
    fn enter(&self) -> Place {
        if let Some(place) = self.try_enter() {
            return place;
        }
        let returns = || self.returns.load(Ordering::Acquire);
        let mut patience = Patience { since: Instant::now(), returns: returns() };
        loop {
            thread::sleep(LOOK);
            if let Some(place) = self.try_enter() {
                return place;
            }
            if patience.is_over(Instant::now(), returns()) {
                self.make_room();
            }
        }
    }

    /// All that are polled hang. Where many do, more of them are to be expected.
    fn make_room(&self) {
        let polling = self.polling.load(Ordering::Acquire);
        // Not more than once for the same ones, however many wait.
        self.hanging.fetch_max(polling.max(self.count) + polling.saturating_sub(self.count) / 2, Ordering::AcqRel);
    }

    fn leave(&self) {
        self.returns.fetch_add(1, Ordering::AcqRel);
        let polling = self.polling.fetch_sub(1, Ordering::AcqRel) - 1;
        if self.hanging.load(Ordering::Acquire) > polling {
            self.hanging.fetch_min(polling, Ordering::AcqRel);
        }
    }
}

/// Calls of plug-ins outside of pumps that may run at the same time. One that never returns keeps its place.
pub const CALLS_MAX: usize = 32;

/// Calls that may wait for one of these places. Further ones are refused at once.
const CALLS_WAITING_MAX: usize = 1024;

/// How long a call may wait for its place. With the deadline of a validation it stays below the time limit of a request.
const PLACE_TIMEOUT: Duration = Duration::from_secs(20);

/// Places for calls, given in the order in which they were asked for.
struct Places {
    free: Arc<Semaphore>,
    waiting: Semaphore,
}

impl Places {
    fn new() -> Self {
        Places { free: Arc::new(Semaphore::new(CALLS_MAX)), waiting: Semaphore::new(CALLS_WAITING_MAX) }
    }

    /// One of them, until it is dropped.
    async fn take(&self) -> Result<OwnedSemaphorePermit, CallError> {
        // Who comes while others wait gets none here.
        if let Ok(place) = self.free.clone().try_acquire_owned() {
            return Ok(place);
        }
        let _waiting = self.waiting.try_acquire().map_err(|_| CallError::Busy)?;
        match tokio::time::timeout(PLACE_TIMEOUT, self.free.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            _ => Err(CallError::Busy),
        }
    }
}

/// Where pumps run.
#[derive(Clone)]
pub struct Pumps {
    runtime: Handle,
    /// Places for calls of plug-ins that are no pumps.
    calls: Arc<Places>,
    threads: Arc<Threads>,
}

impl Pumps {
    /// On a runtime that [`pump_runtime`] made.
    pub fn new(runtime: Handle) -> Self {
        Pumps {
            runtime,
            calls: Arc::new(Places::new()),
            threads: Arc::new(Threads::new(worker_threads() - FREE_THREADS)),
        }
    }

    /// Calls code of a plug-in that is no pump, on a thread that it may block. While [`CALLS_MAX`] others run it waits, and its time begins
    /// with its place. A call that does not return in time is left to itself: its thread and its place are lost.
    pub async fn call<T: Send + 'static>(
        &self,
        limit: Duration,
        code: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CallError> {
        let place = self.calls.take().await?;
        let call = self.runtime.spawn_blocking(move || {
            let result = supervision::catch(code);
            drop(place);
            result
        });
        match tokio::time::timeout(limit, call).await {
            Ok(Ok(result)) => result.map_err(CallError::Panicked),
            Ok(Err(_)) => Err(CallError::Stopping),
            Err(_) => Err(CallError::Late),
        }
    }
}

/// Why a call of a plug-in has no result.
#[derive(Debug)]
pub enum CallError {
    /// No place came free in time, or too many calls wait for one already.
    Busy,
    /// It did not return in time.
    Late,
    /// It panicked.
    Panicked(Panic),
    /// The process ends.
    Stopping,
}

/// A pump that cannot starve the others. While a thread is free, as is usual, this costs three additions. When none is and none comes back
/// within [`REPLACE_AFTER`], they hang, and the threads that poll further ones are replaced beforehand.
struct Elastic<F> {
    pump: F,
    threads: Arc<Threads>,
    hold: Arc<Hold>,
}

/// Whether a pump holds a thread at this moment, and whether it was given up: a thread that one who was given up holds is a zombie, until
/// its code returns after all.
#[derive(Default)]
struct Hold(Mutex<HoldState>);

#[derive(Default)]
struct HoldState {
    holds: bool,
    abandoned: Option<Metrics>,
}

impl Hold {
    fn set(&self, change: impl FnOnce(&mut HoldState)) {
        // Nothing in here can panic half-way.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_zombie = |state: &HoldState| state.holds && state.abandoned.is_some();
        let before = is_zombie(&state);
        change(&mut state);
        match (before, is_zombie(&state), &state.abandoned) {
            (false, true, Some(metrics)) => _ = metrics.worker().zombie_threads.fetch_add(1, Ordering::Relaxed),
            (true, false, Some(metrics)) => _ = metrics.worker().zombie_threads.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
    }

    /// Holds a thread until what is returned is dropped.
    fn begin(&self) -> Holding<'_> {
        self.set(|state| state.holds = true);
        Holding(self)
    }
}

struct Holding<'a>(&'a Hold);

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.set(|state| state.holds = false);
    }
}

impl<F: Future + Unpin> Future for Elastic<F> {
    type Output = F::Output;
    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<F::Output> {
        let hold = self.hold.clone();
        let _holding = hold.begin();
        let poll = match self.threads.enter() {
            Place::Here => Pin::new(&mut self.pump).poll(context),
            Place::Replaced => block_in_place(|| Pin::new(&mut self.pump).poll(context)),
        };
        self.threads.leave();
        poll
    }
}

/// How a pump ended.
pub type PumpEnd = Result<(), Failure>;

/// A running pump.
pub struct Pump {
    /// Of a future, which is aborted at its next wait; a thread cannot be ended from outside.
    future: Option<JoinHandle<()>>,
    hold: Arc<Hold>,
}

impl Pump {
    /// Gives up on a pump that does not end. Its channels must be closed already. As long as its code holds a thread, that is counted as a
    /// zombie.
    pub fn abandon(&self, metrics: &Metrics) {
        if let Some(future) = &self.future {
            future.abort();
        }
        self.hold.set(|state| state.abandoned = Some(metrics.clone()));
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
    let hold = Arc::<Hold>::default();
    let guarded = async move {
        let end = match Caught(Box::pin(future)).await {
            Ok(end) => end,
            Err(panic) => Err(panicked(panic, &phase)),
        };
        ended(end);
    };
    if !blocking {
        let elastic =
            Elastic { pump: Box::pin(guarded.instrument(span)), threads: pumps.threads.clone(), hold: hold.clone() };
        return Ok(Pump { future: Some(pumps.runtime.spawn(elastic)), hold });
    }
    let (runtime, held) = (pumps.runtime.clone(), hold.clone());
    // Linux shows the first 15 bytes of the name.
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _holding = held.begin();
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(guarded.instrument(span))));
    })?;
    Ok(Pump { future: None, hold })
}

/// A panic as the failure of a pump, which may have failed before.
pub fn panicked(panic: Panic, phase: &PhaseCell) -> Failure {
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

    use futures_util::future;

    use super::*;

    #[test]
    fn calls_that_hang_or_panic_are_errors_and_their_number_is_bounded() {
        let runtime = pump_runtime().unwrap();
        let pumps = Pumps::new(runtime.handle().clone());
        let call = |limit, code: fn() -> u8| runtime.block_on(pumps.call(limit, code));
        let long = Duration::from_secs(60);
        assert!(matches!(call(long, || 7), Ok(7)));
        assert!(matches!(call(long, || panic!("no")), Err(CallError::Panicked(panic)) if panic.message == "no"));
        for _ in 0..CALLS_MAX {
            let hang = || loop {
                thread::park();
            };
            assert!(matches!(call(Duration::from_millis(1), hang), Err(CallError::Late)));
        }
        let one_more = async { tokio::time::timeout(Duration::from_millis(1), pumps.call(long, || 7)).await };
        assert!(runtime.block_on(one_more).is_err(), "it waits for a place");
        runtime.shutdown_background();
    }

    #[test]
    fn calls_beyond_those_that_may_run_wait_for_them() {
        let runtime = pump_runtime().unwrap();
        let pumps = Pumps::new(runtime.handle().clone());
        let (returns, returned) = mpsc::channel::<()>();
        let returned = Arc::new(Mutex::new(returned));
        let long = Duration::from_secs(60);
        let calls: Vec<_> = (0..3 * CALLS_MAX)
            .map(|_| {
                let returned = returned.clone();
                let wait = move || returned.lock().unwrap().recv().unwrap();
                let pumps = pumps.clone();
                runtime.spawn(async move { pumps.call(long, wait).await })
            })
            .collect();
        // Nobody returns before all run or wait.
        let deadline = Instant::now() + Duration::from_secs(20);
        while pumps.calls.waiting.available_permits() > CALLS_WAITING_MAX - 2 * CALLS_MAX {
            assert!(Instant::now() < deadline, "they do not wait");
            thread::yield_now();
        }
        for _ in &calls {
            returns.send(()).unwrap();
        }
        for call in calls {
            assert!(runtime.block_on(call).unwrap().is_ok());
        }
        assert_eq!(pumps.calls.waiting.available_permits(), CALLS_WAITING_MAX);
        runtime.shutdown_background();
    }

    #[tokio::test(start_paused = true)]
    async fn calls_wait_for_a_place_in_bounded_number_and_for_a_bounded_time() {
        let places = Places::new();
        let taken: Vec<_> = future::join_all((0..CALLS_MAX).map(|_| places.take())).await;
        assert!(taken.iter().all(Result::is_ok));
        let began = tokio::time::Instant::now();
        let waits = future::join_all((0..CALLS_WAITING_MAX).map(|_| places.take()));
        let one_more = async {
            // Polled behind all that wait.
            assert!(matches!(places.take().await, Err(CallError::Busy)));
            assert_eq!(began.elapsed(), Duration::ZERO, "it is refused at once");
        };
        let (waited, ()) = future::join(waits, one_more).await;
        assert!(waited.iter().all(|place| matches!(place, Err(CallError::Busy))));
        assert_eq!(began.elapsed(), PLACE_TIMEOUT);
        drop(taken);
        assert!(places.take().await.is_ok());
    }

    #[test]
    fn threads_are_replaced_only_when_none_of_the_others_comes_back() {
        let threads = Threads::new(2);
        assert_eq!([(); 3].map(|()| threads.try_enter()), [Some(Place::Here), Some(Place::Here), None]);
        assert_eq!(threads.enter(), Place::Replaced, "both hang");
        assert_eq!([(); 2].map(|()| threads.try_enter()), [Some(Place::Replaced), None], "as many again, and no more");
        assert_eq!(threads.enter(), Place::Replaced, "these hang as well");
        for _ in 0..4 {
            threads.leave();
        }
        assert_eq!(
            [(); 3].map(|()| threads.try_enter()),
            [Some(Place::Here), Some(Place::Replaced), None],
            "one hangs still"
        );
        for _ in 0..3 {
            threads.leave();
        }
        assert_eq!([(); 3].map(|()| threads.try_enter()), [Some(Place::Here), Some(Place::Here), None]);
    }

    #[test]
    fn pumps_that_come_back_do_not_hang_however_busy_they_are() {
        let began = Instant::now();
        let mut patience = Patience { since: began, returns: 7 };
        for step in 1..20 {
            assert!(!patience.is_over(began + REPLACE_AFTER / 2 * step, 7 + step as usize));
        }
        assert!(!patience.is_over(began + REPLACE_AFTER / 2 * 20, 26));
        assert!(patience.is_over(began + REPLACE_AFTER / 2 * 21, 26));
    }

    #[test]
    fn a_panic_is_the_failure_of_its_pump() {
        supervision::install_panic_hook();
        let runtime = pump_runtime().unwrap();
        let pumps = Pumps::new(runtime.handle().clone());
        for blocking in [false, true] {
            let (ends, ended) = mpsc::channel();
            let phase = Arc::<PhaseCell>::default();
            phase.enter(Phase::Put);
            let panics = Box::pin(async { panic!("on purpose") });
            super::start(&pumps, blocking, "pump", phase, panics, move |end| ends.send(end).unwrap()).unwrap();
            let end: PumpEnd = ended.recv_timeout(Duration::from_secs(20)).expect("its end is a message");
            let failure = end.unwrap_err();
            assert_eq!(failure.phase, Phase::Put);
            assert!(failure.message.contains("on purpose") && failure.backtrace.is_some(), "{failure:?}");
        }
        runtime.shutdown_background();
    }

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
    #[test]
    fn a_thread_that_an_abandoned_pump_holds_is_a_zombie_until_it_returns() {
        let runtime = pump_runtime().unwrap();
        let pumps = Pumps::new(runtime.handle().clone());
        for blocking in [false, true] {
            let metrics = Metrics::new();
            let zombies = || metrics.worker().zombie_threads.load(Ordering::Relaxed);
            let (enters, entered) = mpsc::channel();
            let (returns, returned) = mpsc::channel::<()>();
            let stuck = Box::pin(async move {
                enters.send(()).unwrap();
                // Blocks its thread, whether it said so or not.
                let _ = returned.recv();
                Ok(())
            });
            let pump = super::start(&pumps, blocking, "pump", Arc::default(), stuck, |_| {}).unwrap();
            entered.recv_timeout(Duration::from_secs(20)).unwrap();
            assert_eq!(zombies(), 0);
            pump.abandon(&metrics);
            assert_eq!(zombies(), 1, "blocking: {blocking}");
            pump.abandon(&metrics);
            assert_eq!(zombies(), 1);
            returns.send(()).unwrap();
            let deadline = std::time::Instant::now() + Duration::from_secs(20);
            while zombies() > 0 {
                assert!(std::time::Instant::now() < deadline, "it is counted for ever");
                thread::yield_now();
            }
        }
        // One that waits holds nothing.
        let metrics = Metrics::new();
        let waits = Box::pin(std::future::pending());
        let pump = super::start(&pumps, false, "pump", Arc::default(), waits, |_| {}).unwrap();
        pump.abandon(&metrics);
        let ended = pump.future.unwrap();
        assert!(runtime.block_on(ended).unwrap_err().is_cancelled());
        assert_eq!(metrics.worker().zombie_threads.load(Ordering::Relaxed), 0);
        runtime.shutdown_background();
    }
}
