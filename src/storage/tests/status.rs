use super::super::status_records::{StatusRecord, TopicUse, UnitId, UnitState};
use super::super::status_store::StatusStore;
use super::*;
use crate::backend::ProducerRecord;
use crate::cluster::{Incarnation, NO_SET, Register, RegisterFields};

async fn open(cluster: &Cluster) -> StatusStore {
    StatusStore::open(cluster.backend.clone(), "status", log_settings(Isolation::ReadUncommitted)).await.unwrap()
}

fn status(state: UnitState, generation: i64, register: Option<RegisterFields>) -> StatusRecord {
    StatusRecord { state, trace: None, worker_id: "h:8083".into(), generation, version: None, register, restart: None }
}

fn held(claim: u64) -> RegisterFields {
    RegisterFields { incarnation: Incarnation(7), claim, held: true, at: 40, set: NO_SET }
}

async fn put(store: &StatusStore, unit: &UnitId, record: Option<StatusRecord>) -> (i32, i64) {
    let (partition, offset) = store.put(unit, record, LIMIT).await.unwrap();
    store.log().wait_until_seen(partition, offset, LIMIT).await.unwrap();
    (partition, offset)
}

#[tokio::test(start_paused = true)]
async fn the_last_record_of_a_unit_is_its_register() {
    let cluster = Cluster::new().await;
    let (store, other) = (open(&cluster).await, open(&cluster).await);
    let unit = UnitId::Task("näme-1/x".into(), 3);
    assert_eq!(store.snapshot().register(&unit), Register::Empty);
    let at = put(&store, &unit, Some(status(UnitState::Running, 0, Some(held(1))))).await;
    let state = store.snapshot();
    let known = state.unit(&unit).unwrap();
    assert_eq!((known.register, known.partition, known.offset), (Register::Ours(held(1)), at.0, at.1));
    put(&store, &unit, Some(status(UnitState::Running, 3, None))).await;
    assert_eq!(store.snapshot().register(&unit), Register::Foreign);
    put(&store, &unit, Some(status(UnitState::Running, 0, Some(held(2))))).await;
    other.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(other.snapshot().register(&unit), Register::Ours(held(2)));
    assert_eq!(other.snapshot().tasks("näme-1/x").map(|(task, _)| task).collect::<Vec<_>>(), [3]);
    assert_eq!(open(&cluster).await.snapshot(), other.snapshot());
    put(&store, &unit, None).await;
    assert_eq!(store.snapshot().register(&unit), Register::Empty);
    assert!(store.snapshot().unit(&unit).is_none());
}

#[tokio::test(start_paused = true)]
async fn only_an_unassigned_of_java_can_be_outdated() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    let unit = UnitId::Task("a".into(), 0);
    let shown = async |record| {
        put(&store, &unit, Some(record)).await;
        store.snapshot().unit(&unit).unwrap().shown.state
    };
    shown(status(UnitState::Running, 5, None)).await;
    assert_eq!(shown(status(UnitState::Unassigned, 5, None)).await, UnitState::Running);
    assert_eq!(shown(status(UnitState::Unassigned, 6, None)).await, UnitState::Unassigned);
    shown(status(UnitState::Running, 5, None)).await;
    assert_eq!(shown(status(UnitState::Unassigned, 0, Some(held(1)))).await, UnitState::Unassigned);
    // Of a connector every record counts.
    let connector = UnitId::Connector("a".into());
    put(&store, &connector, Some(status(UnitState::Running, 5, None))).await;
    put(&store, &connector, Some(status(UnitState::Unassigned, 1, None))).await;
    assert_eq!(store.snapshot().unit(&connector).unwrap().shown.state, UnitState::Unassigned);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_misses_no_record() {
    const RECORDS: u64 = 1000;
    let cluster = Cluster::new().await;
    let (store, writer) = (open(&cluster).await, open(&cluster).await);
    let unit = UnitId::Connector("a".into());
    let writing = tokio::spawn({
        let unit = unit.clone();
        async move {
            for claim in 1..=RECORDS {
                writer.put(&unit, Some(status(UnitState::Running, 0, Some(held(claim)))), LIMIT).await.unwrap();
            }
        }
    });
    // In the middle of the writing.
    store.log().moved().await;
    let (state, mut positions, mut updates) = store.subscribe();
    let mut last = state.register(&unit).holder().map_or(0, |register| register.claim);
    assert!(last < RECORDS);
    while last < RECORDS {
        let update = updates.recv().await.unwrap();
        for read in update.reads {
            let claim = read.register.holder().unwrap().claim;
            assert_eq!(claim, last + 1);
            last = claim;
        }
        assert!(update.positions.iter().zip(&positions).all(|(new, old)| new >= old));
        positions = update.positions;
    }
    writing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn used_topics_are_kept_until_they_are_reset() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    let topics = async || {
        store.log().read_to_end(LIMIT).await.unwrap();
        store.snapshot().topics("a:b").map(|(topic, _)| topic.to_owned()).collect::<Vec<_>>()
    };
    let first = TopicUse { task: 0, discovered_at: 17 };
    store.put_topic_uses("a:b", &["t.1".to_owned()], Some(first), LIMIT).await.unwrap();
    assert_eq!(topics().await, ["t.1"]);
    store.put_topic_uses("a:b", &["t.1".to_owned()], None, LIMIT).await.unwrap();
    assert!(topics().await.is_empty());
}

/// A unit whose partition is another one when the topic has 50 of them instead of 5.
async fn moved_unit(cluster: &Cluster) -> (UnitId, StatusStore) {
    let old = open(cluster).await;
    let unit = UnitId::Connector("a".into());
    assert_eq!(put(&old, &unit, Some(status(UnitState::Running, 0, Some(held(1))))).await.0, 1);
    cluster.hooks().grow("status", 50);
    (unit, old)
}

#[tokio::test(start_paused = true)]
async fn a_claim_from_before_the_topic_grew_holds_until_the_unit_is_claimed_at_home() {
    let cluster = Cluster::new().await;
    let (unit, old) = moved_unit(&cluster).await;
    let store = open(&cluster).await;
    let state = store.snapshot();
    let known = state.unit(&unit).unwrap();
    let home = known.partition;
    assert_ne!(home, 1, "the test needs a unit that moved");
    assert_eq!((known.register, known.shown.state), (Register::Ours(held(1)), UnitState::Running));
    // Who opened the topic before goes on writing where all of its time read, and is heard.
    assert_eq!(put(&old, &unit, Some(status(UnitState::Paused, 0, Some(held(2))))).await.0, 1);
    store.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(store.snapshot().register(&unit), Register::Ours(held(2)));
    let (_, _, mut updates) = store.subscribe();
    assert_eq!(put(&store, &unit, Some(status(UnitState::Unassigned, 0, Some(held(9))))).await.0, home);
    assert_eq!(store.snapshot().unit(&unit).unwrap().shown.state, UnitState::Unassigned);
    store.log().read_to_end(LIMIT).await.unwrap();
    let mut registers = Vec::new();
    while let Ok(update) = updates.try_recv() {
        assert!(update.reads.iter().all(|read| read.partition == home));
        registers.extend(update.reads.into_iter().map(|read| read.register));
    }
    assert_eq!(registers, [Register::Ours(held(9)); 2], "the old one is replaced at once, and then removed");
    old.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(old.snapshot().register(&unit), Register::Empty, "who opened the topic before stops");
    assert_eq!(open(&cluster).await.snapshot(), store.snapshot());
    put(&store, &unit, None).await;
    assert!(store.snapshot().unit(&unit).is_none(), "nothing comes back");
}

#[tokio::test(start_paused = true)]
async fn a_claim_of_who_opened_the_topic_before_it_grew_replaces_none_at_home() {
    let cluster = Cluster::new().await;
    let (unit, old) = moved_unit(&cluster).await;
    let store = open(&cluster).await;
    put(&store, &unit, Some(status(UnitState::Running, 0, Some(held(9))))).await;
    put(&old, &unit, Some(status(UnitState::Failed, 0, Some(held(2))))).await;
    store.log().read_to_end(LIMIT).await.unwrap();
    let state = store.snapshot();
    let known = state.unit(&unit).unwrap();
    assert_eq!((known.register, known.shown.state), (Register::Ours(held(9)), UnitState::Running));
}

#[tokio::test(start_paused = true)]
async fn a_status_that_cannot_be_read_replaces_the_register_for_everybody() {
    let cluster = Cluster::new().await;
    let store = open(&cluster).await;
    let unit = UnitId::Task("a".into(), 0);
    put(&store, &unit, Some(status(UnitState::Running, 0, Some(held(1))))).await;
    let write = async |key: bytes::Bytes, value: &'static str| {
        let record = ProducerRecord::keyed("status", key, Some(value.into()));
        let (partition, offset) = store.log().append(vec![record], LIMIT).await.unwrap()[0];
        store.log().wait_until_seen(partition, offset, LIMIT).await.unwrap();
    };
    for value in
        ["not JSON", "[]", r#"{"state":"RUNNING","generation":0,"incarnation":7,"claim":-1,"held":true,"at":1}"#]
    {
        write(unit.key(), value).await;
        assert_eq!(store.snapshot().register(&unit), Register::Foreign, "{value}");
        assert_eq!(store.snapshot().unit(&unit).unwrap().shown.state, UnitState::Running, "what was shown before");
        // Who starts when the earlier records are compacted away.
        cluster.hooks().compact("status");
        assert_eq!(open(&cluster).await.snapshot().register(&unit), Register::Foreign, "{value}");
        put(&store, &unit, Some(status(UnitState::Running, 0, Some(held(2))))).await;
        assert_eq!(store.snapshot().register(&unit), Register::Ours(held(2)));
    }
    write("status-of-something-new".into(), "not JSON").await;
    assert_eq!(store.snapshot().units().len(), 1);
}
