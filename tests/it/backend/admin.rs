//! Groups and topics.

use super::*;

pub(super) async fn commits_offsets_without_being_a_member(backend: Subject) {
    let topic = new_topic(&backend, 2).await;
    let group = unique("group");
    let offsets = backend.committed_offsets();
    let both = [at(&topic, 0), at(&topic, 1)];
    assert_eq!(offsets.committed(&group, &both).await.unwrap(), [None, None]);
    assert_eq!(offsets.all(&group).await.unwrap(), []);
    offsets.commit(&group, &[(at(&topic, 1), 5)]).await.unwrap();
    assert_eq!(offsets.committed(&group, &both).await.unwrap(), [None, Some(5)]);
    offsets.commit(&group, &[(at(&topic, 0), 7), (at(&topic, 1), 3)]).await.unwrap();
    let mut all = offsets.all(&group).await.unwrap();
    all.sort();
    assert_eq!(all, [(at(&topic, 0), 7), (at(&topic, 1), 3)]);
    assert_eq!(offsets.committed(&group, &[]).await.unwrap(), []);
    offsets.commit(&group, &[]).await.unwrap();
}

pub(super) async fn deletes_offsets(backend: Subject) {
    let topic = new_topic(&backend, 2).await;
    let group = unique("group");
    let offsets = backend.committed_offsets();
    offsets.commit(&group, &[(at(&topic, 0), 7), (at(&topic, 1), 3)]).await.unwrap();
    offsets.delete(&group, &[at(&topic, 0)]).await.unwrap();
    assert_eq!(offsets.all(&group).await.unwrap(), [(at(&topic, 1), 3)]);
    offsets.delete(&unique("no-such-group"), &[at(&topic, 0)]).await.unwrap();
}

pub(super) async fn forgets_offsets_of_a_deleted_topic(backend: Subject) {
    let (gone, topic, group) = (new_topic(&backend, 1).await, new_topic(&backend, 1).await, unique("group"));
    let offsets = backend.committed_offsets();
    offsets.commit(&group, &[(at(&gone, 0), 7), (at(&topic, 0), 3)]).await.unwrap();
    backend.admin().delete_topic(&gone).await.unwrap();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while offsets.committed(&group, &[at(&gone, 0)]).await.unwrap() != [None] {
        assert!(tokio::time::Instant::now() < deadline, "the offset outlives its topic");
    }
    assert_eq!(offsets.all(&group).await.unwrap(), [(at(&topic, 0), 3)]);
}

pub(super) async fn creates_describes_and_deletes_topics(backend: Subject) {
    let admin = backend.admin();
    assert!(!admin.cluster_id().await.unwrap().is_empty());
    let topic = new_topic_with(&backend, 3, &[("cleanup.policy", "compact")]).await;
    let again = NewTopic { name: topic.clone(), partitions: 3, replication_factor: 1, config: BTreeMap::new() };
    admin.create_topic(&again).await.unwrap();
    let described = admin.describe_topic(&topic).await.unwrap().expect("it was just made");
    assert_eq!((described.name.as_str(), described.partitions), (topic.as_str(), 3));
    assert_eq!(described.setting("cleanup.policy"), Some("compact"));
    assert_eq!(described.setting("min.compaction.lag.ms"), Some("0"));
    admin.set_topic_setting(&topic, "min.compaction.lag.ms", "60000").await.unwrap();
    let described = admin.describe_topic(&topic).await.unwrap().expect("it is there");
    assert_eq!(described.setting("min.compaction.lag.ms"), Some("60000"));
    assert_eq!(described.setting("cleanup.policy"), Some("compact"), "the others stay");
    assert!(admin.set_topic_setting(&unique("missing"), "min.compaction.lag.ms", "1").await.is_err());
    assert_eq!(admin.list_topics().await.unwrap()[&topic], 3);
    let defaults =
        NewTopic { name: unique("defaults"), partitions: -1, replication_factor: -1, config: BTreeMap::new() };
    admin.create_topic(&defaults).await.unwrap();
    let described = admin.describe_topic(&defaults.name).await.unwrap().expect("it was just made");
    assert_eq!((described.partitions, described.setting("cleanup.policy")), (1, Some("delete")));
    let bad = NewTopic { name: "no/such name".into(), ..defaults.clone() };
    assert!(matches!(admin.create_topic(&bad).await, Err(BackendError::Refused(_))));
    let wanted = [topic.clone(), unique("nowhere"), defaults.name.clone(), topic.clone()];
    let found = admin.find_topics(&wanted).await.unwrap();
    assert_eq!(
        found.iter().map(|(name, found)| (name, found.partitions)).collect::<BTreeMap<_, _>>(),
        BTreeMap::from([(&topic, 3), (&defaults.name, 1)])
    );
    assert!(admin.find_topics(&[]).await.unwrap().is_empty());
    admin.delete_topic(&topic).await.unwrap();
    admin.delete_topic(&topic).await.unwrap();
    until_gone(&backend, &topic).await;
    admin.create_topic(&NewTopic { name: topic.clone(), partitions: 1, ..defaults }).await.unwrap();
    assert_ne!(admin.find_topics(&wanted).await.unwrap()[&topic].id, found[&topic].id, "it is another topic");
    let missing = unique("missing");
    assert_eq!(admin.describe_topic(&missing).await.unwrap(), None);
    assert!(!admin.list_topics().await.unwrap().contains_key(&missing), "describing makes no topic");
}

pub(super) async fn describes_groups(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    let group = unique("described");
    let admin = backend.admin();
    assert_eq!(admin.describe_group(&group).await.unwrap(), None);
    backend.committed_offsets().commit(&group, &[(at(&topic, 0), 1)]).await.unwrap();
    let described = admin.describe_group(&group).await.unwrap().expect("it has offsets");
    assert_eq!((described.state.as_str(), described.members), ("Empty", 0));
}

pub(super) async fn compacted_topics_take_no_record_without_a_key(backend: Subject) {
    let topic = new_topic_with(&backend, 1, &[("cleanup.policy", "compact")]).await;
    let writer = writer(&backend);
    let keyless = ProducerRecord { key: None, ..record(&topic, "", "v") };
    assert_eq!(writer.send(&[keyless]).unwrap(), 1);
    writer.flush(PATIENCE).await.unwrap();
    let mut acks = Vec::new();
    writer.take_acks(&mut acks);
    assert!(matches!(acks[..], [Ack::Failed { sequence: 0, error: BackendError::Refused(_) }]), "{acks:?}");
    // The handle goes on.
    assert_eq!(write_after(&writer, &[record(&topic, "k", "v")]).await, 1);
}
