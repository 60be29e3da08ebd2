//! Signals that ask for the end of a worker.

use crate::support::faulty;
use crate::support::process::Worker;
use crate::support::unique;

#[tokio::test]
async fn a_second_signal_ends_a_worker_that_waits_for_a_task() {
    let test = concat!(module_path!(), "::")
        .split_once("::")
        .unwrap()
        .1
        .replace("signals::", "pruning::worker_with_test_plugins");
    let settings = [("task.shutdown.graceful.timeout.ms", "600000")];
    let mut worker = Worker::of_this_binary(&format!("memory:{}", unique("signals")), &settings, &test);
    worker.start();
    worker.ready().await;
    let name = unique("does-not-stop");
    let config = [
        ("connector.class", faulty::SOURCE),
        ("topic", &name),
        ("source.rate", "10"),
        ("fault.phase", "stop"),
        ("fault.kind", "block"),
    ];
    worker.put(&name, &config).await;
    worker.eventually("it runs", async || worker.states(&name).await == ["RUNNING", "RUNNING"]).await;
    worker.signal("TERM").await;
    worker.eventually("the signal is heard", async || worker.log().contains("SIGTERM: stopping")).await;
    worker.signal("INT").await;
    assert!(!worker.exit(crate::support::process::PATIENCE).await.success());
    assert!(worker.log().contains("SIGINT after SIGTERM"), "{}", worker.log_tail());
}
