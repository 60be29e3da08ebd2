//! Topics of a Java worker with exactly-once sources: full of transactions, some of them aborted.

use connect_node::backend::ProducerRecord;

use super::phase;
use super::round_trip::{PART, Trip};
use super::topics::{Row, appended, is_worker_record};
use super::view::{View, await_states};
use crate::support::java_worker::Kind;

const BOTH: [&str; 2] = ["source", "sink"];

/// A14 on what Java itself wrote, and B1 to B4 with transactions. connect-node writes at least once, in the same file of settings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_topics_of_an_exactly_once_worker_change_hands() {
    let mut trip = Trip::new(&[("exactly.once.source.support", "enabled")]).await;
    let group = trip.cluster.worker.setting("group.id");
    let view = java_begins(&mut trip).await;
    let config = trip.topics.config().await;
    let end = config.last().map_or(0, |row| row.offset);
    assert!(
        end >= config.len() as i64,
        "Java wrote transactions, so there are gaps: {} records, end {end}",
        config.len()
    );
    trip.topics.check_partitions().await;
    let keys = trip.topics.offset_keys().await;

    let record = |topic: &str, key: &str, value: &str| {
        ProducerRecord::keyed(topic, key.to_owned(), Some(value.to_owned().into()))
    };
    let target =
        record(trip.topics.config_topic(), "target-state-source", r#"{"state":"PAUSED","state.v2":"STOPPED"}"#);
    trip.topics.write_aborted(&format!("connect-cluster-{group}"), &[target]).await;
    let key = trip.topics.offsets().await[0].key();
    let ahead = record(&trip.cluster.worker.setting("offset.storage.topic"), &key, r#"{"position":1}"#);
    trip.topics.write_aborted(&format!("{group}-source-0"), &[ahead]).await;

    {
        let _phase = phase("connect-node takes over from exactly-once");
        trip.cluster.start(Kind::ConnectNode).await;
        assert_eq!(View::of(&trip.cluster.worker).await, view, "A14: A1, A2");
        move_lines(&mut trip).await;
        let now = trip.topics.config().await;
        let added: Vec<_> =
            appended(&config, &now).iter().filter(|row| !is_worker_record(row) && !is_restated(row)).collect();
        assert!(added.is_empty(), "A14: A5: {added:?}");
        trip.stop(Kind::ConnectNode).await;
        assert_eq!(trip.topics.offset_keys().await, keys, "A14: A8");
    }
    let handed = trip.cluster.hand_back().await;
    assert!(handed.status.success(), "{}", String::from_utf8_lossy(&handed.stdout));
    // The worker does it some seconds after it has taken the transactional id; where it ended sooner, who hands back does.
    let now = trip.topics.config().await;
    let restated = appended(&config, &now).iter().filter(|row| is_restated(row)).count();
    assert_eq!(restated, 1, "what the aborted record hides is written again, once");

    let _phase = phase("Java comes back with exactly-once");
    let config = trip.topics.config().await;
    trip.cluster.start(Kind::Java).await;
    assert_eq!(View::of(&trip.cluster.worker).await, view, "B2");
    move_lines(&mut trip).await;
    let complaints = trip.cluster.storage_complaints();
    let unexpected: Vec<_> = complaints.iter().filter(|line| !line.contains("worker-")).collect();
    assert!(unexpected.is_empty(), "B1: {unexpected:#?}");
    let now = trip.topics.config().await;
    let allowed = |key: &str| key == "session-key" || key.starts_with("tasks-fencing-");
    let added: Vec<_> = appended(&config, &now).iter().filter(|row| !allowed(&row.key())).collect();
    assert!(added.is_empty(), "B3: {added:?}");
    trip.cluster.stop(Kind::Java).await;
    trip.lines.check(&trip.topics).await;
    assert_eq!(trip.topics.offset_keys().await, keys, "B4: A8");
}

/// Says again that there is no target state, which the aborted record hides.
fn is_restated(row: &Row) -> bool {
    row.key() == "target-state-source" && row.value.is_none()
}

async fn java_begins(trip: &mut Trip) -> View {
    let _phase = phase("Java makes connectors with exactly-once");
    trip.cluster.start(Kind::Java).await;
    trip.lines.append(PART);
    trip.put("source", &trip.source("input")).await;
    trip.put("sink", &trip.sink("output", &trip.lines.topic, 1)).await;
    move_lines(trip).await;
    let view = View::of(&trip.cluster.worker).await;
    trip.stop(Kind::Java).await;
    view
}

/// A3, A6, A7, B4.
async fn move_lines(trip: &mut Trip) {
    for name in BOTH {
        await_states(&trip.cluster.worker, name, &["RUNNING", "RUNNING"]).await;
    }
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.append(PART);
    trip.lines.arrive(&trip.cluster).await;
    trip.lines.check(&trip.topics).await;
}
