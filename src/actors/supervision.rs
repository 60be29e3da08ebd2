//! Who restarts whom, how often, and how the end of anything is noticed. The policy of the whole runtime on one page:
//!
//! | what ends | by panic, error or hang | what is written | restarted |
//! |---|---|---|---|
//! | pump of a task | its actor hears of it once, with phase, message and backtrace | FAILED with the trace | by the herder that holds it, as `restart.policy` says (never, unless it is set), or when somebody restarts the task |
//! | pump of a connector | the same; its tasks go on | FAILED with the trace | the same; or when somebody restarts the connector or changes its configuration |
//! | task or connector actor | the worker stops its pump | FAILED with the trace | as above |
//! | offset committer | the task goes on; a flush that was under way is repeated by the next one | nothing | by the worker, after [`BACKOFF`] |
//! | status actor | writes that waited are said again by the control plane; it ends with its herder | nothing | by the herder, after [`BACKOFF`]; after [`STATUS_ACTOR_RESTARTS`] in a row the process ends |
//! | cluster actor | nobody is declared dead for it: others may miss this worker's gossip, and ask it | nothing | by the herder, after [`BACKOFF`], without end |
//! | herder | everything it knew is in the topics: units stop hard, a new one joins anew | as the log says | by the worker, after [`BACKOFF`], without end: it goes on where Kafka let it |
//! | reader, writer, committer or count of partitions of an internal topic | the log counts as lost: what was read of it may not be all any more | nothing | by whoever runs the process, which ends with the reason |
//! | worker actor | the process ends: nobody is left to supervise | nothing | by whoever runs the process |
//!
//! `restart.policy=on-failure`: behind a back-off that doubles, with jitter, up to the longest; a run that lasts as long as that begins with the first one again. With more failures
//! within `restart.window.ms` than `restart.max.attempts` the breaker opens, and only a person starts the unit again. Both stand in the status record. `restart_policy.rs` decides,
//! `herder/supervised.rs` acts, and docs/supervision.md says what ends a wait.
//!
//! An actor is never revived with its old state: each start calls a factory. actix's own `Supervisor` does not help, since it
//! shares one future with the actor, so a panic ends both.

use std::any::Any;
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Once;
use std::task::{Context as TaskContext, Poll};
use std::time::{Duration, Instant};

use actix::prelude::*;

use crate::pipeline::{Failure, Phase};

/// Messages that may wait for an actor before senders that can wait do so. The actors themselves cannot: a message of theirs that is lost, or
/// that waits while the receiver waits for the sender, would be worse than a longer queue. They use `do_send`, which takes no notice of this
/// bound, and are bounded otherwise: for each unit a handful of messages are under way.
pub const MAILBOX: usize = 1024;

/// How long the worker waits before it builds an actor again: first, doubled each time up to the last.
pub const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(30));

/// An actor that lived this long begins with the first back-off again.
pub const BACKOFF_RESET: Duration = Duration::from_secs(60);

/// How often in a row the status actor is built again. Without it nothing can be claimed, so that a worker that crashes it each time had
/// better make room for another process.
pub const STATUS_ACTOR_RESTARTS: u32 = 10;

/// The time to wait before restart number `restarts` (from 0) in a row.
pub fn backoff(restarts: u32) -> Duration {
    let (first, last) = BACKOFF;
    first.saturating_mul(1 << restarts.min(16)).min(last)
}

/// Restarts of one actor in a row.
pub struct Restarts {
    /// How many.
    pub count: u32,
    last_start: Instant,
}

impl Restarts {
    /// None yet, of an actor that starts now.
    pub fn new() -> Self {
        Restarts { count: 0, last_start: Instant::now() }
    }

    /// How long to wait before the next start, which counts from now on.
    pub fn next_backoff(&mut self) -> Duration {
        if self.last_start.elapsed() >= BACKOFF_RESET {
            self.count = 0;
        }
        let wait = backoff(self.count);
        self.count += 1;
        self.last_start = Instant::now();
        wait
    }
}

impl Default for Restarts {
    fn default() -> Self {
        Self::new()
    }
}

/// What a panic left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panic {
    /// Its message.
    pub message: String,
    /// File and line.
    pub place: String,
    /// Where it came from.
    pub backtrace: String,
}

impl Panic {
    /// As the reason why a task or connector is FAILED.
    pub fn into_failure(self, phase: Phase) -> Failure {
        let message = format!("panic at {}: {}", self.place, self.message);
        Failure { phase, message, backtrace: Some(self.backtrace), hung: false }
    }
}

thread_local! {
    /// The last panic of this thread. Read by whoever caught it, in the same poll, so that no other panic can come between.
    static LAST_PANIC: RefCell<Option<Panic>> = const { RefCell::new(None) };
    /// How many calls of [`catch`] this thread is in.
    static CATCHERS: Cell<usize> = const { Cell::new(0) };
}

/// Keeps message, place and backtrace of each panic for the catcher on the same thread. Panics of threads without a catcher
/// reach the former hook. Further calls do nothing.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if CATCHERS.get() == 0 {
                return former(info);
            }
            let panic = Panic {
                message: payload_text(info.payload()),
                place: info.location().map_or_else(|| "an unknown place".into(), ToString::to_string),
                backtrace: Backtrace::force_capture().to_string(),
            };
            tracing::error!(place = panic.place, message = panic.message, "panic");
            LAST_PANIC.with(|last| *last.borrow_mut() = Some(panic));
        }));
    });
}

fn payload_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".into())
}

fn caught(payload: Box<dyn Any + Send>) -> Panic {
    LAST_PANIC.with(|last| last.borrow_mut().take()).unwrap_or_else(|| Panic {
        message: payload_text(&*payload),
        place: "an unknown place".into(),
        backtrace: String::new(),
    })
}

/// Calls `f` and turns a panic into a value.
pub fn catch<T>(f: impl FnOnce() -> T) -> Result<T, Panic> {
    // Whatever `f` touched is dropped or belongs to a plug-in that is not called again.
    CATCHERS.set(CATCHERS.get() + 1);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHERS.set(CATCHERS.get() - 1);
    result.map_err(caught)
}

/// A future whose panic is a value.
pub struct Caught<F>(pub F);

impl<F: Future + Unpin> Future for Caught<F> {
    type Output = Result<F::Output, Panic>;
    fn poll(mut self: Pin<&mut Self>, context: &mut TaskContext<'_>) -> Poll<Self::Output> {
        match catch(|| Pin::new(&mut self.0).poll(context)) {
            Ok(poll) => poll.map(Ok),
            Err(panic) => Poll::Ready(Err(panic)),
        }
    }
}

/// Starts an actor on the present arbiter. `ended` is called once, after it stopped or panicked; a panic of the factory counts.
pub fn start_watched<A>(make: impl FnOnce(&mut Context<A>) -> A, ended: impl FnOnce(Option<Panic>) + 'static) -> Addr<A>
where
    A: Actor<Context = Context<A>>,
{
    let (sender, receiver) = actix::dev::channel::channel(MAILBOX);
    let mut context = Context::with_receiver(receiver);
    match catch(|| make(&mut context)) {
        Ok(actor) => {
            let running = Caught(context.into_future(actor));
            actix::spawn(async move { ended(running.await.err()) });
        }
        Err(panic) => {
            drop(context);
            actix::spawn(async move { ended(Some(panic)) });
        }
    }
    Addr::new(sender)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    struct Victim;
    impl Actor for Victim {
        type Context = Context<Self>;
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Boom;
    impl Handler<Boom> for Victim {
        type Result = ();
        fn handle(&mut self, _: Boom, _: &mut Context<Self>) {
            panic!("boom in a handler");
        }
    }

    #[derive(Message)]
    #[rtype(result = "()")]
    struct Quit;
    impl Handler<Quit> for Victim {
        type Result = ();
        fn handle(&mut self, _: Quit, context: &mut Context<Self>) {
            context.stop();
        }
    }

    #[test]
    fn the_end_of_an_actor_is_heard_of_with_its_reason() {
        install_panic_hook();
        let (ends, heard) = mpsc::channel();
        actix::System::new().block_on(async move {
            let tell = |ends: &mpsc::Sender<_>| {
                let ends = ends.clone();
                move |panic| ends.send(panic).unwrap()
            };
            let boom = start_watched(|_| Victim, tell(&ends));
            assert!(boom.send(Boom).await.is_err(), "the mailbox closes");
            let quit = start_watched(|_| Victim, tell(&ends));
            quit.send(Quit).await.unwrap();
            let never: Addr<Victim> = start_watched(|_| panic!("boom in the factory"), tell(&ends));
            assert!(never.send(Quit).await.is_err());
            actix::clock::sleep(Duration::ZERO).await;
        });
        let ends: Vec<Option<Panic>> = heard.try_iter().collect();
        let messages: Vec<_> = ends.iter().map(|end| end.as_ref().map(|panic| panic.message.as_str())).collect();
        assert_eq!(messages, [Some("boom in a handler"), None, Some("boom in the factory")]);
        let panic = ends[0].as_ref().unwrap();
        assert!(panic.place.contains("supervision.rs") && panic.backtrace.contains("Boom"), "{panic:?}");
    }

    #[test]
    fn backoff_grows_to_its_bound() {
        assert_eq!(backoff(0), BACKOFF.0);
        assert_eq!(backoff(1), BACKOFF.0 * 2);
        assert_eq!(backoff(1000), BACKOFF.1);
    }
}
