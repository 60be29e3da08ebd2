//! The address of a worker: what others reach there, from the first moment to the last.

use crate::support::node::Setup;
use crate::support::process::Worker;

/// Says what a worker does that others cannot ask.
const DEBUG: (&str, &str) = ("CONNECT_NODE_LOG", "connect_node=debug");

/// Who watches this worker must not take it for dead while it stops its tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_listeners_answer_until_the_process_ends() {
    let node = Setup::memory().start().await;
    node.ask_to_end();
    node.until("everything but the listeners has ended", async || {
        // Panics where nobody answers.
        node.get("/cluster/self").await;
        !node.is_running()
    })
    .await;
    assert_eq!(node.get("/cluster/self").await.status, 503);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_advertised_address_that_leads_elsewhere_is_named_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = |name: &str| format!("embedded:{}", directory.path().join(name).display());
    let mut right = Worker::new(&cluster("right"), &[]);
    right.environment.push(DEBUG);
    right.start();
    let taken = right.url().rsplit(':').next().unwrap().to_owned();
    right.eventually("it finds itself", async || right.log().contains("leads to this worker")).await;
    let mut wrong = Worker::new(&cluster("wrong"), &[("rest.advertised.port", &taken)]);
    wrong.start();
    wrong.ready().await;
    wrong.eventually("it warns", async || wrong.log().contains("does not lead back to it")).await;
    let log = wrong.log();
    let warning = log.lines().find(|line| line.contains("does not lead back to it")).unwrap();
    let place = format!("GET http://127.0.0.1:{taken}/cluster/self: another process answers");
    for part in ["WARN", "rest.advertised.host.name", "rest.advertised.port", "evict", &place] {
        assert!(warning.contains(part), "{part} is not in {warning}");
    }
    assert!(!right.log().contains("does not lead back to it"));
}
