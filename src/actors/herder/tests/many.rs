//! One worker with many connectors.

use std::collections::BTreeMap;
use std::time::Instant;

use futures_util::future;

use super::*;
use crate::actors::handle::Precondition;
use crate::actors::pump::CALLS_MAX;

/// Requests of the measurement that are under way at a time.
const CLIENTS: usize = 16;

/// Between two looks at the worker that is measured: looking is work of the herder, too.
const LOOK: Duration = Duration::from_millis(5);

/// How long the worker is left alone to see what it costs when nothing happens.
const IDLE: Duration = Duration::from_secs(5);

/// After a change: longer than the connector and its tasks take to start anew.
const SETTLE: Duration = Duration::from_millis(500);

async fn rest(time: Duration) {
    tokio::time::sleep(time).await;
}

/// Sources and sinks, by turns.
fn settings(number: usize) -> (String, BTreeMap<String, Option<String>>) {
    let name = format!("c-{number}");
    let (class, topic, file) = match number % 2 {
        0 => ("FileStreamSource", "topic", "/nothing/to/read/for/a/test"),
        _ => ("FileStreamSink", "topics", "/dev/null"),
    };
    let settings = [("name", &*name), ("connector.class", class), (topic, "t"), ("file", file)];
    let config = settings.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    (name, config.into())
}

impl Rig {
    async fn put(&self, number: usize, also: Option<(&str, &str)>) -> Duration {
        let (name, mut config) = settings(number);
        config.extend(also.map(|(name, value)| (name.to_owned(), Some(value.to_owned()))));
        let began = Instant::now();
        let precondition = Precondition::default();
        self.handle.ask(|reply| HerderRequest::PutConfig { name, config, precondition, reply }).await.unwrap();
        began.elapsed()
    }

    /// Units whose last status says so.
    async fn count(&self, state: UnitState) -> usize {
        let count = move |herder: &mut Herder, _: &mut Context<Herder>| {
            herder.statuses.units().filter(|(_, status)| status.shown.state == state).count()
        };
        within(&self.herder().await, count).await.unwrap_or_default()
    }

    async fn until_running(&self, units: usize) {
        let began = Instant::now();
        while self.count(UnitState::Running).await != units {
            assert!(began.elapsed() < 3 * PATIENCE, "never happened: {units} units run");
            rest(LOOK).await;
        }
    }

    /// Where the last status of each unit stands.
    async fn status_offsets(&self) -> BTreeMap<UnitId, i64> {
        let offsets = |herder: &mut Herder, _: &mut Context<Herder>| {
            herder.statuses.units().map(|(unit, status)| (unit.clone(), status.offset)).collect()
        };
        within(&self.herder().await, offsets).await.unwrap()
    }
}

/// Time of all threads of this process on a processor.
fn processor_time() -> Duration {
    const TICK: Duration = Duration::from_millis(10);
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks: u32 = fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().unwrap()).sum();
    TICK * ticks
}

/// Where the time goes with many connectors. Prints figures and asserts none of them.
#[test]
#[ignore = "a measurement: cargo test --release --lib -- --ignored --nocapture many_connectors_in_figures"]
fn many_connectors_in_figures() {
    let many = std::env::var("CONNECT_NODE_MANY").map_or(1000, |many| many.parse().unwrap());
    let cluster = new_cluster();
    in_a_worker_of(cluster.clone(), async |rig| {
        rig.joined().await;
        let began = Instant::now();
        let puts = futures_util::stream::iter(0..many).map(|number| rig.put(number, None));
        let mut took: Vec<Duration> = puts.buffer_unordered(CLIENTS).collect().await;
        took.sort_unstable();
        let (p50, p99) = (took[many / 2], took[many * 99 / 100]);
        println!("{many} connectors: created after {:?}, each p50 {p50:?}, p99 {p99:?}", began.elapsed());
        rig.until_running(2 * many).await;
        println!("... all run after {:?}", began.elapsed());
        let before = processor_time();
        rest(IDLE).await;
        let share = (processor_time() - before).as_secs_f64() / IDLE.as_secs_f64();
        let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
        println!("... idle: {:.1} % of a core, {threads} threads", share * 100.0);
        let before = rig.status_offsets().await;
        let one = rig.put(0, Some(("batch.size", "17"))).await;
        rest(SETTLE).await;
        rig.until_running(2 * many).await;
        let after = rig.status_offsets().await;
        let touched =
            after.iter().filter(|(unit, at)| unit.connector() != "c-0" && before.get(unit) != Some(at)).count();
        println!("... one change after {one:?}, {touched} other units touched");
        let began = Instant::now();
        rig.crash_herder().await;
        rig.until("the next herder runs all", move |herder| {
            let begun = herder.running.values().filter(|running| running.outcome.is_some()).count();
            herder.number == 2 && begun >= 2 * many
        })
        .await;
        println!("... a new herder runs all after {:?}", began.elapsed());
        let began = Instant::now();
        rig.shutdown.ask();
        println!("... {:?} after {:?}", rig.end().await, began.elapsed());
    });
    let began = Instant::now();
    in_a_worker_of(cluster.clone(), async |rig| {
        rig.joined().await;
        println!("... a new worker has joined after {:?}", began.elapsed());
        rig.until_running(2 * many).await;
        println!("... and runs all after {:?}", began.elapsed());
        let began = Instant::now();
        let delete = |number: usize| {
            let handle = rig.handle.clone();
            let (name, always) = (format!("c-{number}"), Precondition::default());
            async move { handle.ask(|reply| HerderRequest::Delete(name, always, reply)).await.unwrap() }
        };
        futures_util::stream::iter(0..many).map(delete).buffer_unordered(CLIENTS).collect::<Vec<()>>().await;
        while !rig.status_offsets().await.is_empty() {
            assert!(began.elapsed() < 3 * PATIENCE, "statuses are left");
            rest(LOOK).await;
        }
        println!("... all deleted after {:?}", began.elapsed());
    });
    memory::forget(&cluster);
}

#[test]
fn creations_wait_while_all_places_for_checks_are_taken() {
    const MANY: usize = 100;
    in_a_worker(async |rig| {
        rig.joined().await;
        let pumps = within(&rig.herder().await, |herder, _| herder.deps.pumps.clone()).await.unwrap();
        let (returns, returned) = std::sync::mpsc::channel::<()>();
        let returned = Arc::new(std::sync::Mutex::new(returned));
        let taken = (0..CALLS_MAX).map(|_| {
            let returned = returned.clone();
            // Until the other end is dropped.
            pumps.call(PATIENCE, move || returned.lock().unwrap().recv())
        });
        let creations = (0..MANY).map(|number| rig.put(number, None));
        let all_asked = async {
            // The herder takes requests in their order, so it has the creations by then.
            rig.handle.ask(HerderRequest::Connectors).await.unwrap();
            drop(returns);
        };
        // `put` fails where it is refused.
        let (taken, _, ()) = future::join3(future::join_all(taken), future::join_all(creations), all_asked).await;
        assert!(taken.iter().all(Result::is_ok));
        rig.until_running(2 * MANY).await;
    });
}

#[test]
fn starts_and_connectors_are_counted() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.put(0, None).await;
        rig.put(1, None).await;
        rig.until_running(4).await;
        // Its task cannot read lines from a directory.
        rig.put(0, Some(("file", "/"))).await;
        eventually("its task fails", async || rig.count(UnitState::Failed).await == 1).await;
        let worker = rig.metrics.worker();
        let starts = |starts: &crate::metrics::Starts| {
            [&starts.attempts, &starts.failures].map(|count| count.load(Ordering::Relaxed))
        };
        assert_eq!((starts(&worker.connector_starts), starts(&worker.task_starts)), ([3, 0], [3, 1]));
        assert_eq!(worker.connectors.load(Ordering::Relaxed), 2);
        rig.crash_herder().await;
        let counted_anew = async || starts(&worker.connector_starts)[0] == 5;
        eventually("the next herder starts them", counted_anew).await;
        assert_eq!(worker.connectors.load(Ordering::Relaxed), 2);
    });
}

#[test]
fn a_change_of_one_connector_touches_no_other() {
    const MANY: usize = 40;
    in_a_worker(async |rig| {
        rig.joined().await;
        for number in 0..MANY {
            rig.put(number, None).await;
        }
        rig.until_running(2 * MANY).await;
        let before = rig.status_offsets().await;
        rig.put(0, Some(("batch.size", "17"))).await;
        let task = UnitId::Task("c-0".into(), 0);
        let old = before[&task];
        rig.until("the task runs anew", move |herder| {
            let status = herder.statuses.unit(&UnitId::Task("c-0".into(), 0));
            status.is_some_and(|status| status.offset > old && status.shown.state == UnitState::Running)
        })
        .await;
        let after = rig.status_offsets().await;
        let touched = after.iter().filter(|(unit, at)| before.get(unit) != Some(at)).map(|(unit, _)| unit.connector());
        assert!(touched.clone().all(|connector| connector == "c-0"), "{:?}", touched.collect::<Vec<_>>());
    });
}
