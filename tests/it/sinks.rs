//! Sinks and the topics that they read: named or matched, there or still to come, growing, deleted, made anew.

use std::time::Instant;

use bytes::Bytes;
use connect_node::backend::{self, ProducerRecord, TopicPartition};

use crate::support::broker::grow_topic;
use crate::support::faulty::{self, SINK, Sunk};
use crate::support::node::{PATIENCE, Setup, TestNode, on_all};
use crate::support::unique;

/// How often the sinks of these tests look for topics.
const MAX_AGE_MS: u64 = 300;

on_all!(follows_its_topics, notices_a_topic_made_anew);

fn quick(setup: Setup) -> Setup {
    setup.with("consumer.metadata.max.age.ms", MAX_AGE_MS)
}

/// Writes numbers to a partition.
async fn write(setup: &Setup, topic: &str, partition: i32, numbers: std::ops::Range<i64>) {
    let record = |number: i64| ProducerRecord {
        partition: Some(partition),
        ..ProducerRecord::keyed(topic.to_owned(), "0", Some(Bytes::from(number.to_string())))
    };
    setup.write(&numbers.map(record).collect::<Vec<_>>()).await;
}

/// Gives a topic further partitions where that can be, and says how many it has of `from` and `to`.
async fn grow(setup: &Setup, topic: &str, from: i32, to: i32) -> i32 {
    match setup.bootstrap.split_once(':') {
        Some(("memory", cluster)) => backend::memory::hooks(cluster).grow(topic, to as usize),
        // Nothing of ours asks for it, and nobody else reaches the topics of a directory.
        Some(("embedded", _)) => return from,
        _ => grow_topic(&setup.bootstrap, topic, to).await,
    }
    to
}

/// Deletes a topic and waits until nobody sees it.
async fn delete(setup: &Setup, node: &TestNode, topic: &str) {
    let admin = setup.backend().admin();
    admin.delete_topic(topic).await.unwrap();
    node.until("the topic is gone", async || admin.describe_topic(topic).await.unwrap().is_none()).await;
}

/// What a sink was given of a partition, as the numbers that were written.
fn numbers(sink: &str, topic: &str, partition: i32) -> Vec<i64> {
    let from = TopicPartition::new(topic, partition);
    let of_partition = faulty::sunk(sink).into_iter().filter(|record| record.partition == from);
    of_partition.map(|Sunk { value, .. }| value.as_i64().expect("numbers are written")).collect()
}

async fn arrives(node: &TestNode, sink: &str, (topic, partition): (&str, i32), expected: &[i64]) {
    let deadline = Instant::now() + PATIENCE;
    while numbers(sink, topic, partition) != expected {
        let (found, state) = (numbers(sink, topic, partition), node.state(sink, Some(0)).await);
        assert!(Instant::now() < deadline, "{topic}-{partition}: {found:?}, not {expected:?}; {state}");
        node.get("/health").await;
    }
}

/// One sink with a pattern, while everything happens to its topics; a steady topic goes on all the time.
async fn follows_its_topics(setup: Setup) {
    let setup = quick(setup);
    let (prefix, sink) = (unique("followed"), unique("follows"));
    let topic = |name: &str| format!("{prefix}.{name}");
    let (steady, grown, late) = (topic("steady"), topic("grown"), topic("late"));
    setup.topic(&steady, 1).await;
    setup.topic(&grown, 1).await;
    write(&setup, &steady, 0, 0..10).await;
    let node = setup.start().await;
    let pattern = format!("{}[.](steady|grown|late)", prefix.replace('.', "[.]"));
    node.create(&sink, &[("connector.class", SINK), ("topics.regex", &pattern), ("tasks.max", "2")]).await;
    node.wait_until_running(&sink, 2).await;
    arrives(&node, &sink, (&steady, 0), &(0..10).collect::<Vec<_>>()).await;

    write(&setup, &steady, 0, 10..20).await;
    setup.topic(&late, 1).await;
    setup.topic(&topic("late-not-matched"), 1).await;
    write(&setup, &late, 0, 0..3).await;
    write(&setup, &topic("late-not-matched"), 0, 0..3).await;
    arrives(&node, &sink, (&late, 0), &[0, 1, 2]).await;

    let partitions = grow(&setup, &grown, 1, 3).await;
    for partition in 0..partitions {
        write(&setup, &grown, partition, 0..2).await;
    }
    for partition in 0..partitions {
        arrives(&node, &sink, (&grown, partition), &[0, 1]).await;
    }
    let committed = setup.backend().committed_offsets();
    let (group, of_grown) = (format!("connect-{sink}"), [TopicPartition::new(&*grown, 0)]);
    let is_committed = async || committed.committed(&group, &of_grown).await.unwrap() == [Some(2)];
    node.until("what was read is committed", is_committed).await;

    let opened = faulty::calls(&sink, "open");
    delete(&setup, &node, &grown).await;
    node.until("its partitions are closed", async || faulty::calls(&sink, "close") > 0).await;
    write(&setup, &steady, 0, 20..30).await;
    arrives(&node, &sink, (&steady, 0), &(0..30).collect::<Vec<_>>()).await;

    setup.topic(&grown, 1).await;
    write(&setup, &grown, 0, 100..105).await;
    arrives(&node, &sink, (&grown, 0), &[0, 1, 100, 101, 102, 103, 104]).await;
    assert!(faulty::calls(&sink, "open") > opened);
    write(&setup, &steady, 0, 30..40).await;
    arrives(&node, &sink, (&steady, 0), &(0..40).collect::<Vec<_>>()).await;
    for task in 0..2 {
        assert_eq!(node.state(&sink, Some(task)).await["state"], "RUNNING");
    }
    assert!(numbers(&sink, &topic("late-not-matched"), 0).is_empty());
    node.stop().await;
}

/// Deleted and made anew so fast that no search sees it missing.
async fn notices_a_topic_made_anew(setup: Setup) {
    let setup = quick(setup);
    let (topic, steady, sink) = (unique("anew"), unique("steady"), unique("notices"));
    setup.topic(&topic, 3).await;
    setup.topic(&steady, 1).await;
    for partition in 0..3 {
        write(&setup, &topic, partition, 0..3).await;
    }
    let node = setup.clone().with("consumer.metadata.max.age.ms", 2_000).start().await;
    let topics = format!("{topic},{steady}");
    node.create(&sink, &[("connector.class", SINK), ("topics", &topics)]).await;
    arrives(&node, &sink, (&topic, 2), &[0, 1, 2]).await;
    delete(&setup, &node, &topic).await;
    setup.topic(&topic, 1).await;
    write(&setup, &topic, 0, 100..105).await;
    // A client that has not noticed either goes on at its old position, as Java's does; then everything comes from the beginning.
    let all = async || numbers(&sink, &topic, 0).ends_with(&[100, 101, 102, 103, 104]);
    node.until("all records of the new topic arrive", all).await;
    write(&setup, &steady, 0, 0..1).await;
    arrives(&node, &sink, (&steady, 0), &[0]).await;
    node.until("the lost partitions are closed", async || faulty::calls(&sink, "close") > 0).await;
    assert_eq!(node.state(&sink, Some(0)).await["state"], "RUNNING");
    node.stop().await;
}

#[tokio::test]
async fn wrong_topics_are_refused() {
    let node = Setup::memory().start().await;
    for (settings, words) in [
        (&[][..], "topics.regex"),
        (&[("topics", "a"), ("topics.regex", "b")], "only one"),
        (&[("topics.regex", "[")], "topics.regex"),
        (&[("topics.regex", "(?!secret).*")], "look-around"),
        (&[("topics.regex", r"(.)\1")], "backreferences"),
    ] {
        let reply = node.put("refused", &[&[("connector.class", SINK)], settings].concat()).await;
        let message = reply.body.json()["message"].to_string();
        assert!(reply.status == 400 && message.contains(words), "{settings:?}: {} {message}", reply.status);
    }
    node.stop().await;
}
