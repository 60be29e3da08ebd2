//! Giving the topics back after a worker of connect-node was killed, and what was aborted.

use std::fs;

use connect_node::backend::{Isolation, NewTopic, ProducerRecord};

use super::topics::{Topics, appended, is_worker_record};
use super::view::{View, await_states};
use super::{PATIENCE, beside};
use crate::support::java_worker::{EitherWorker, Kind};
use crate::support::process::holds_within;
use crate::support::{broker, unique};

const LINES: usize = 100;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_is_taken_off_the_log() {
    let mut cluster = EitherWorker::new(broker().await.bootstrap(), &[]);
    let topics = Topics::of(&cluster.worker);
    cluster.start(Kind::ConnectNode).await;
    let topic = unique("crash");
    let input = cluster.worker.directory().join("input");
    fs::write(&input, "").unwrap();
    let file = input.display().to_string();
    let config = [("connector.class", "FileStreamSource"), ("file", &*file), ("topic", &topic)];
    cluster.worker.put("source", &config).await;
    await_states(&cluster.worker, "source", &["RUNNING", "RUNNING"]).await;

    // The last two things that a worker writes of itself.
    let is_settled = async || {
        let rows = topics.config_raw().await;
        rows.iter().any(|row| row.key() == "session-key") && rows.iter().any(|row| row.json()["settled"] == true)
    };
    assert!(holds_within(PATIENCE, is_settled).await, "it writes no session key, or not that it is settled");
    let before = topics.config_raw().await;
    let refused = cluster.hand_back().await;
    let error = String::from_utf8_lossy(&refused.stderr).into_owned();
    let id = cluster.worker.url().trim_start_matches("http://").to_owned();
    assert!(!refused.status.success() && error.contains(&format!("still alive: {id}")), "{error}");
    assert_eq!(topics.config_raw().await, before, "what is refused writes nothing");

    cluster.worker.kill().await;
    let handed = cluster.hand_back().await;
    let said = String::from_utf8_lossy(&handed.stdout).into_owned();
    assert!(handed.status.success(), "{said}{}", String::from_utf8_lossy(&handed.stderr));
    assert!(said.contains(&format!("worker {id} had not left")), "{said}");
    let config = topics.config_raw().await;
    let added = appended(&before, &config);
    assert!(added.len() == 1 && is_worker_record(&added[0]) && added[0].value.is_none(), "{added:?}");
    assert!(cluster.hand_back().await.status.success());
    assert_eq!(topics.config_raw().await, config, "the second time there is nothing to do");

    // It may come back all the same.
    cluster.start(Kind::ConnectNode).await;
    await_states(&cluster.worker, "source", &["RUNNING", "RUNNING"]).await;
    cluster.stop(Kind::ConnectNode).await;
}

/// A14: neither connectors nor offsets of transactions that were aborted, and gaps between offsets are no error.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_aborted_is_not_read() {
    let mut cluster = EitherWorker::new(broker().await.bootstrap(), &[]);
    let topics = Topics::of(&cluster.worker);
    let topic = unique("aborted");
    let new = NewTopic { name: topic.clone(), partitions: 1, replication_factor: 1, config: Default::default() };
    topics.backend.admin().create_topic(&new).await.unwrap();
    let input = cluster.worker.directory().join("input");
    let file = input.display().to_string();
    let lines: String = (0..LINES).map(|number| format!("line {number:03}\n")).collect();
    fs::write(&input, &lines).unwrap();
    cluster.start(Kind::ConnectNode).await;
    let config = [("connector.class", "FileStreamSource"), ("file", &*file), ("topic", &topic)];
    cluster.worker.put("source", &config).await;
    let position = async || topics.source_offsets("source").await.first().map(|at| at["offset"]["position"].clone());
    let all = holds_within(PATIENCE, async || position().await == Some(lines.len().into())).await;
    assert!(all, "{:?}\n{}", position().await, cluster.worker.log_tail());
    let view = View::of(&cluster.worker).await;
    cluster.stop(Kind::ConnectNode).await;

    let record = |topic: &str, key: &str, value: &str| {
        ProducerRecord::keyed(topic, key.to_owned(), Some(value.to_owned().into()))
    };
    let group = cluster.worker.setting("group.id");
    let configs = topics.config_topic();
    let aborted = [
        record(configs, "connector-aborted", r#"{"properties":{"connector.class":"none","name":"aborted"}}"#),
        record(configs, "target-state-source", r#"{"state":"PAUSED","state.v2":"STOPPED"}"#),
    ];
    topics.write_aborted(&format!("connect-cluster-{group}"), &aborted).await;
    let ahead = record(
        &cluster.worker.setting("offset.storage.topic"),
        &format!(r#"["source",{{"filename":"{file}"}}]"#),
        r#"{"position":1}"#,
    );
    topics.write_aborted(&format!("{group}-task"), &[ahead]).await;
    fs::write(&input, format!("{lines}last\n")).unwrap();
    cluster.start(Kind::ConnectNode).await;
    assert_eq!(View::of(&cluster.worker).await, view, "A14: the config topic");
    await_states(&cluster.worker, "source", &["RUNNING", "RUNNING"]).await;
    let all = holds_within(PATIENCE, async || position().await == Some((lines.len() + 5).into())).await;
    assert!(all, "{:?}\n{}", position().await, cluster.worker.log_tail());
    cluster.stop(Kind::ConnectNode).await;
    let sent = topics.read(&topic, Isolation::ReadCommitted).await.len();
    assert_eq!(sent, LINES + 1, "A14: the offset topic");
    // A second one reads past the markers as well.
    let mut second = beside(&cluster.worker);
    second.start();
    second.ready().await;
    assert_eq!(second.terminate().await.code(), Some(0), "{}", second.log_tail());
}
