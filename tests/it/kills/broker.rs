//! The broker goes away and comes back while the worker lives.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::oracle::LINE_BYTES;
use super::transfer::{SINK, SOURCE, Transfer};
use crate::support::broker::Broker;
use crate::support::process::{Worker, free_port, random_moment};

/// Lines of the transfer that a broker interrupts.
const LINES: usize = 200_000;
/// How long the broker is away at least.
const AWAY: Duration = Duration::from_secs(3);
/// Longer than any request of the worker waits for its answer (30 s).
const AWAY_LONG: Duration = Duration::from_secs(40);
/// A request on the wire whose answer was lost may be stored twice: this many bytes (`message.max.bytes` of the producer).
const WIRE_BYTES: usize = 1 << 20;
/// An answer of REST may take this long, whatever Kafka does.
const REST_ANSWER: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_broker_needs_no_manual_action() {
    restart_broker(AWAY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_away_for_longer_than_requests_last_needs_no_manual_action() {
    restart_broker(AWAY_LONG).await;
}

async fn restart_broker(away: Duration) {
    let broker = Broker::start().await;
    let began = Instant::now();
    let mut transfer = Transfer::new(broker.bootstrap()).await;
    transfer.append_up_to(LINES);
    transfer.written_at_least(LINES / 4 * LINE_BYTES).await;
    tokio::task::block_in_place(|| broker.stop());
    let gone = Instant::now();
    transfer
        .worker
        .eventually("health says that Kafka is away", async || {
            let asked = Instant::now();
            let reply = transfer.worker.get("/health").await;
            assert!(asked.elapsed() < REST_ANSWER, "{:?}", asked.elapsed());
            let message = reply.body.json()["message"].as_str().unwrap_or_default().to_owned();
            reply.status == 503 && message.contains(broker.bootstrap())
        })
        .await;
    let noticed = gone.elapsed();
    let asked = Instant::now();
    assert_eq!(
        transfer.worker.states(SINK).await,
        ["RUNNING", "RUNNING"],
        "what it was, since nobody can say otherwise"
    );
    assert!(asked.elapsed() < REST_ANSWER, "{:?}", asked.elapsed());
    random_moment(away.saturating_sub(gone.elapsed())).await;
    let written = transfer.written();
    assert!(written < LINES * LINE_BYTES, "everything was through before the broker went");
    broker.restart().await;
    let back = Instant::now();
    transfer.worker.ready().await;
    let healthy = back.elapsed();
    transfer.written_at_least(written + 1).await;
    let moving = back.elapsed();
    transfer.complete().await;
    for connector in [SOURCE, SINK] {
        assert_eq!(transfer.worker.states(connector).await, ["RUNNING", "RUNNING"]);
    }
    let status = transfer.worker.terminate().await;
    assert_eq!(status.code(), Some(0), "{}", transfer.worker.log_tail());
    let seen = transfer.look().await;
    // The worker never died, so a repetition can only be a request whose answer was lost.
    let (in_topic, in_file) = transfer.check_repetitions(WIRE_BYTES / LINE_BYTES);
    assert_eq!(in_file, 0);
    println!(
        "broker away for {away:?}: {LINES} lines, {:.1} s; noticed after {noticed:?}, healthy {healthy:?} after the broker took \
         connections, moving after {moving:?}; again in the topic {in_topic}; {seen:?}",
        began.elapsed().as_secs_f64()
    );
}

/// Asks for as long as `AWAY`: each answer is a 503 with the reason, and in time.
async fn says_why(worker: &Worker, bootstrap: &str) {
    let listening = async || worker.call("GET", "/health", None).await.is_ok();
    worker.eventually("REST listens", listening).await;
    let since = Instant::now();
    while since.elapsed() < AWAY {
        for (path, field) in [("/connectors", "message"), ("/health", "message"), ("/", "message")] {
            let asked = Instant::now();
            let reply = worker.get(path).await;
            let text = reply.body.json()[field].as_str().unwrap_or_default().to_owned();
            assert_eq!(reply.status, 503, "{path}: {text}");
            assert!(text.contains(bootstrap), "{path}: {text}");
            assert!(asked.elapsed() < REST_ANSWER, "{path}: {:?}", asked.elapsed());
        }
        random_moment(Duration::from_millis(fastrand::u64(10..200))).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_waits_for_its_broker() {
    let broker = Broker::start().await;
    tokio::task::block_in_place(|| broker.stop());
    let mut worker = Worker::new(broker.bootstrap(), &[]);
    worker.start();
    says_why(&worker, broker.bootstrap()).await;
    broker.restart().await;
    let back = Instant::now();
    worker.ready().await;
    println!("a broker that comes later: the worker is ready {:?} after it takes connections", back.elapsed());
    assert_eq!(worker.get("/connectors").await.status, 200);
    assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_with_a_wrong_address_says_so_and_can_be_stopped() {
    let silent = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    for bootstrap in [format!("127.0.0.1:{}", free_port()), silent.local_addr().unwrap().to_string()] {
        let mut worker = Worker::new(&bootstrap, &[]);
        worker.start();
        says_why(&worker, &bootstrap).await;
        let asked = Instant::now();
        assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
        println!("a worker that waits for a broker ends {:?} after SIGTERM", asked.elapsed());
    }
}
