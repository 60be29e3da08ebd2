use std::sync::atomic::AtomicUsize;

use super::super::aborted;
use super::super::cluster_state::ClusterState;
use super::super::config_records::{ConfigRecord, TargetState};
use super::super::config_store::{ConfigStep, NotEvicted};
use super::super::plan;
use super::super::topic_log::{COMPARE_AND_APPEND_TIMEOUT, CompareError};
use super::transactions::{Doubt, Wrapped};
use super::*;
use crate::backend::memory::Request;
use crate::backend::{BackendError, ProducerRecord};
use crate::cluster::Incarnation;

#[tokio::test(start_paused = true)]
async fn a_write_is_read_when_it_returns_and_others_read_it_too() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.configs().await, cluster.configs().await);
    let offsets = first.put(|state| create(state, "a")).await.unwrap();
    assert_eq!(first.snapshot().connector("a").unwrap().offset, offsets[0]);
    // The other one reads to the end before it checks.
    let error = second.put(|state| create(state, "a")).await.unwrap_err();
    assert!(matches!(&error, CompareError::Rejected(reason) if reason == "a exists"), "{error}");
    second.put(|state| Ok::<_, String>(plan::put_tasks(state, "a", vec![config("t")]))).await.unwrap();
    first.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(first.snapshot().tasks("a").len(), 1);
    assert!(!first.snapshot().task_configs_changed("a", &[config("t")]));
    assert_eq!(first.snapshot(), cluster.configs().await.snapshot());
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lags_reads_to_the_end_before_it_checks() {
    let cluster = Cluster::new().await;
    let lagging = Wrapped { read_delay: Duration::from_millis(200), ..Wrapped::new(cluster.backend.clone()) };
    let (first, second) = (cluster.configs().await, open_configs(Arc::new(lagging)).await);
    // Else its first write would look for aborted records, and no longer lag after that.
    first.put(|state| create(state, "a")).await.unwrap();
    assert!(second.snapshot().connector("a").is_none(), "it does not lag, so this shows nothing");
    let error = second.put(|state| create(state, "a")).await.unwrap_err();
    assert!(matches!(&error, CompareError::Rejected(reason) if reason == "a exists"), "{error}");
}

/// The first of two that write in turn may have kept its writer: it does not know that it was fenced.
#[tokio::test(start_paused = true)]
async fn who_kept_its_writer_does_not_say_no_to_what_others_changed() {
    let cluster = Cluster::new().await;
    let lagging = Wrapped { read_delay: Duration::from_millis(200), ..Wrapped::new(cluster.backend.clone()) };
    let (first, second) = (open_configs(Arc::new(lagging)).await, cluster.configs().await);
    first.put(|state| create(state, "a")).await.unwrap();
    second.put(|_| Ok::<_, String>(plan::delete_connector("a"))).await.unwrap();
    assert!(first.snapshot().connector("a").is_some(), "it does not lag, so this shows nothing");
    first.put(|state| create(state, "a")).await.unwrap();
    second.put(|_| Ok::<_, String>(plan::delete_connector("a"))).await.unwrap();
    // Nothing to write is an answer as well.
    let unless_there = |state: &ClusterState| {
        let there = state.connector("a").is_some();
        Ok::<_, String>(if there { Vec::new() } else { plan::put_connector(state, "a", config("0"), None) })
    };
    assert!(!first.put(unless_there).await.unwrap().is_empty());
}

/// What is known of the end of a log comes late behind a transaction.
#[tokio::test(start_paused = true)]
async fn who_kept_its_writer_does_not_ask_for_the_end() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    store.put(|state| create(state, "a")).await.unwrap();
    cluster.faults().fail_requests(Request::Bounds, usize::MAX, BackendError::Retriable("not now".into()));
    store.put(|state| create(state, "b")).await.unwrap();
    let asked = store.put(|state| create(state, "b")).await.unwrap_err();
    assert!(matches!(asked, CompareError::NotWritten(_)), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn a_deleted_connector_that_is_created_again_has_no_tasks_whatever_was_compacted() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    store.put(|state| create(state, "a")).await.unwrap();
    store.put(|state| Ok::<_, String>(plan::put_tasks(state, "a", vec![config("t")]))).await.unwrap();
    store.put(|_| Ok::<_, String>(plan::delete_connector("a"))).await.unwrap();
    cluster.hooks().compact_tombstones("configs");
    let fresh = cluster.configs().await;
    assert!(fresh.snapshot().connector("a").is_none() && fresh.snapshot().tasks("a").is_empty());
    fresh.put(|state| create(state, "a")).await.unwrap();
    store.log().read_to_end(LIMIT).await.unwrap();
    cluster.hooks().compact_tombstones("configs");
    for state in [fresh.snapshot(), store.snapshot(), cluster.configs().await.snapshot()] {
        assert!(state.connector("a").is_some() && state.tasks("a").is_empty());
        assert_eq!(state.task_set("a").unwrap().count, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn no_write_of_many_workers_is_lost() {
    const WORKERS: usize = 6;
    const WRITES: usize = 8;
    let cluster = Cluster::new().await;
    let first = cluster.configs().await;
    first.put(|state| create(state, "a")).await.unwrap();
    let checks = Arc::new(AtomicUsize::new(0));
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..WORKERS {
        let slow = Wrapped { delay: Duration::from_millis(20), ..Wrapped::new(cluster.backend.clone()) };
        let store = open_configs(Arc::new(slow)).await;
        let checks = checks.clone();
        workers.spawn(async move {
            for _ in 0..WRITES {
                let calls = checks.clone();
                let increment = move |state: &ClusterState| {
                    calls.fetch_add(1, Ordering::Relaxed);
                    let old = state.connector("a").and_then(|entry| entry.config["salt"].clone()).unwrap_or_default();
                    let next = old.parse::<usize>().unwrap() + 1;
                    Ok::<_, String>(plan::put_connector(state, "a", config(&next.to_string()), None))
                };
                store.put(increment).await.unwrap();
            }
        });
    }
    workers.join_all().await;
    first.log().read_to_end(LIMIT).await.unwrap();
    let total = (WORKERS * WRITES).to_string();
    assert_eq!(first.snapshot().connector("a").unwrap().config, config(&total));
    assert!(checks.load(Ordering::Relaxed) > WORKERS * WRITES, "the workers did not meet, so this showed nothing");
}

#[tokio::test(start_paused = true)]
async fn a_plain_append_is_read_although_a_dead_writer_left_a_transaction_open() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let dead = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
    dead.begin().unwrap();
    dead.send(&[ProducerRecord::keyed("configs", "connector-half", Some(r#"{"properties":{}}"#.into()))])
        .await
        .unwrap();
    let joined = plan::member_joined("w:1", member(1));
    let before = tokio::time::Instant::now();
    let offset = store.append(&joined, LIMIT).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(1500));
    let state = store.snapshot();
    assert_eq!(state.member("w:1").unwrap().incarnation().0, offset);
    assert!(state.connector("half").is_none());
    assert!(!store.release_blocked_readers(LIMIT).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_others_can_release_blocked_readers() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let dead = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
    dead.begin().unwrap();
    dead.send(&[ProducerRecord::keyed("configs", "connector-half", None)]).await.unwrap();
    assert!(store.release_blocked_readers(LIMIT).await.unwrap());
    assert!(matches!(dead.commit(LIMIT).await, Err(BackendError::Fenced(_))));
    // The writer that was taken over is of use.
    store.put(|state| create(state, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_outage_ends_a_write_in_time_and_the_next_one_works() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let before = tokio::time::Instant::now();
    let faults = cluster.faults();
    let error = store
        .put(move |state| {
            faults.set_down(true);
            create(state, "a")
        })
        .await
        .unwrap_err();
    assert!(matches!(error, CompareError::NotWritten(_)), "{error}");
    assert!(before.elapsed() <= COMPARE_AND_APPEND_TIMEOUT + Duration::from_secs(2), "{:?}", before.elapsed());
    cluster.faults().set_down(false);
    store.put(|state| create(state, "a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn of_two_that_evict_each_other_one_stays() {
    let cluster = Cluster::new().await;
    let (first, second) = (cluster.configs().await, cluster.configs().await);
    let one = first.append(&plan::member_joined("w:1", member(1)), LIMIT).await.unwrap();
    let two = second.append(&plan::member_joined("w:2", member(2)), LIMIT).await.unwrap();
    let (one, two) = (("w:1", crate::cluster::Incarnation(one)), ("w:2", crate::cluster::Incarnation(two)));
    let (left, right) = tokio::join!(first.evict(one, two, "silent"), second.evict(two, one, "silent"));
    assert_eq!(u8::from(left.is_ok()) + u8::from(right.is_ok()), 1, "{left:?} {right:?}");
    first.log().read_to_end(LIMIT).await.unwrap();
    assert_eq!(first.snapshot().members().len(), 1);
    // A life that is over cannot be evicted, nor can it evict.
    let again = first.evict(one, two, "silent").await.unwrap_err();
    assert!(matches!(again, CompareError::Rejected(NotEvicted::EvictorGone | NotEvicted::VictimGone)), "{again}");
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_sees_the_state_after_each_record() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    store.put(|state| create(state, "a")).await.unwrap();
    let (state, position, mut updates) = store.subscribe();
    assert!(state.connector("a").is_some());
    store.put(|state| Ok::<_, String>(plan::put_target_state(state, "a", TargetState::Stopped))).await.unwrap();
    let mut seen = Vec::new();
    while let Ok(update) = updates.try_recv() {
        assert!(update.position >= position);
        let state = |step: &ConfigStep| (step.state.task_set("a").is_some(), step.state.target_state("a"));
        assert!(update.steps.iter().all(|step| step.connector.as_deref() == Some("a")));
        seen.extend(update.steps.iter().map(state));
    }
    assert_eq!(seen, [(true, TargetState::Started), (true, TargetState::Stopped)]);
}

#[tokio::test(start_paused = true)]
async fn a_commit_without_an_answer_is_neither_lost_nor_repeated() {
    for (carried_out, fenced) in [(true, false), (false, false), (true, true), (false, true)] {
        let cluster = Cluster::new().await;
        let doubt = Arc::new(Doubt { carried_out, left: AtomicUsize::new(1), fenced });
        let backend = Wrapped { doubt: Some(doubt.clone()), ..Wrapped::new(cluster.backend.clone()) };
        let store = open_configs(Arc::new(backend)).await;
        let checks = Arc::new(AtomicUsize::new(0));
        let counted = checks.clone();
        // Were it taken for lost, the second check would find the name taken.
        let offsets = store
            .put(move |state| {
                counted.fetch_add(1, Ordering::Relaxed);
                create(state, "a")
            })
            .await
            .unwrap();
        assert_eq!(doubt.left.load(Ordering::Relaxed), 0);
        assert_eq!(checks.load(Ordering::Relaxed), if carried_out { 1 } else { 2 });
        assert_eq!(cluster.configs().await.snapshot().connector("a").unwrap().offset, offsets[0]);
    }
}

#[tokio::test(start_paused = true)]
async fn writes_that_wait_for_each_other_share_a_transaction() {
    const WRITES: usize = 200;
    let cluster = Cluster::new().await;
    let slow = Wrapped { delay: Duration::from_millis(200), ..Wrapped::new(cluster.backend.clone()) };
    let store = Arc::new(open_configs(Arc::new(slow)).await);
    let before = tokio::time::Instant::now();
    let mut writes = tokio::task::JoinSet::new();
    for number in 0..WRITES {
        let store = store.clone();
        // Each name twice: the second one is told that it exists, also within the same transaction.
        writes.spawn(async move { store.put(move |state| create(state, &format!("c{}", number / 2))).await });
    }
    let outcomes = writes.join_all().await;
    let (written, rejected): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.is_ok());
    assert_eq!((written.len(), rejected.len()), (WRITES / 2, WRITES / 2));
    assert!(rejected.iter().all(|outcome| matches!(outcome, Err(CompareError::Rejected(_)))));
    assert_eq!(store.snapshot().connectors().len(), WRITES / 2);
    let offsets: std::collections::BTreeSet<_> = written.into_iter().flat_map(Result::unwrap).collect();
    let folded = store.snapshot().connectors().map(|(_, entry)| entry.offset).collect();
    assert_eq!(offsets, folded);
    // One by one they would take 20 s.
    assert!(before.elapsed() < Duration::from_secs(3), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_too_large_fails_its_own_write_only() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let large = "x".repeat(64 << 20);
    let (left, right) = tokio::join!(
        store.put(move |state| Ok::<_, String>(plan::put_connector(state, "large", config(&large), None))),
        store.put(|state| create(state, "small")),
    );
    assert!(matches!(left, Err(CompareError::NotWritten(_))), "{left:?}");
    right.unwrap();
    assert_eq!(store.snapshot().connectors().map(|(name, _)| name).collect::<Vec<_>>(), ["small"]);
}

#[tokio::test(start_paused = true)]
async fn a_reader_of_aborted_records_is_told_the_truth() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    store.put(|state| create(state, "a")).await.unwrap();
    store.put(|state| Ok::<_, String>(plan::put_tasks(state, "a", vec![config("t")]))).await.unwrap();
    let before = store.snapshot();
    let lost = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
    lost.begin().unwrap();
    let mut records = plan::put_connector(&before, "a", config("aborted"), Some(TargetState::Paused));
    records.extend(plan::put_tasks(&before, "a", vec![config("x"), config("y")]));
    records.extend(plan::put_connector(&before, "b", config("aborted"), None));
    let records: Vec<_> = records.iter().map(|record| record.encode("configs")).collect();
    lost.send(&records).await.unwrap();
    lost.abort(LIMIT).await.unwrap();

    // connector-a, task-a-0, commit-a, and the tombstones of target-state-a and connector-b. task-a-1 does no harm.
    assert_eq!(store.restate_aborted(LIMIT).await.unwrap(), 5);
    assert_eq!(store.restate_aborted(LIMIT).await.unwrap(), 0);
    let after = store.snapshot();
    assert_eq!(after.connector("a").unwrap().config, config("0"));
    assert_eq!(after.tasks("a"), before.tasks("a"));
    assert!(!after.task_configs_changed("a", &[config("t")]));
    let java = raw_reading(&cluster).await;
    assert_eq!(java.connectors().map(|(name, _)| name).collect::<Vec<_>>(), ["a"]);
    assert_eq!(java.connector("a").unwrap().config, config("0"));
    assert_eq!(java.target_state("a"), TargetState::Started);
    assert_eq!(java.tasks("a"), before.tasks("a"));
}

/// Whatever an aborted transaction would have done to a connector: who reads it all has the connector and its tasks again, in the order
/// in which Java takes them, also after compaction.
#[tokio::test(start_paused = true)]
async fn a_connector_is_restated_as_a_whole() {
    type Plan = fn(&ClusterState) -> Vec<ConfigRecord>;
    let plans: [(&str, Plan); 4] = [
        ("stop", |state| plan::put_target_state(state, "a", TargetState::Stopped)),
        ("delete", |_| plan::delete_connector("a")),
        ("put", |state| plan::put_connector(state, "a", config("1"), None)),
        ("tasks", |state| plan::put_tasks(state, "a", vec![config("x")])),
    ];
    for (what, aborted) in plans {
        let cluster = Cluster::new().await;
        let store = cluster.configs().await;
        store.put(|state| create(state, "a")).await.unwrap();
        let tasks = || vec![config("t"), config("u")];
        store.put(move |state| Ok::<_, String>(plan::put_tasks(state, "a", tasks()))).await.unwrap();
        store.put(|state| Ok::<_, String>(plan::put_target_state(state, "a", TargetState::Paused))).await.unwrap();
        let before = store.snapshot();
        assert_eq!(store.aborted_keys(LIMIT).await.unwrap(), [""; 0]);
        let lost = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
        lost.begin().unwrap();
        let records: Vec<_> = aborted(&before).iter().map(|record| record.encode("configs")).collect();
        lost.send(&records).await.unwrap();
        // Still open, as that of a worker that died: who writes next aborts it.
        let mut keys = store.aborted_keys(LIMIT).await.unwrap();
        let mut expected: Vec<_> =
            records.iter().map(|record| String::from_utf8_lossy(record.key.as_ref().unwrap()).into_owned()).collect();
        keys.sort();
        expected.sort();
        assert_eq!(keys, expected, "{what}");
        assert!(store.restate_aborted(LIMIT).await.unwrap() > 0, "{what}");
        assert_eq!(store.aborted_keys(LIMIT).await.unwrap(), [""; 0], "{what}");
        let raw = raw_reading(&cluster).await;
        for after in [&store.snapshot(), &raw] {
            assert_eq!(after.connector("a").unwrap().config, config("0"), "{what}");
            assert_eq!((after.tasks("a"), after.target_state("a")), (before.tasks("a"), TargetState::Paused), "{what}");
            assert!(!after.task_configs_changed("a", &tasks()), "{what}");
        }
        let commit = raw.task_set("a").unwrap().commit_offset;
        assert!(raw.connector("a").unwrap().offset < commit, "{what}: Java needs the connector first");
    }
}

#[tokio::test(start_paused = true)]
async fn members_are_removed_together_unless_another_one_joined() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let mut lives = Vec::new();
    for (id, nonce) in [("h:1", 1), ("h:2", 2)] {
        let offset = store.append(&plan::member_joined(id, member(nonce)), LIMIT).await.unwrap();
        lives.push((id.to_owned(), Incarnation(offset)));
    }
    for known in [&lives[..1], &[lives[0].clone(), (lives[1].0.clone(), Incarnation(0))]] {
        let error = store.remove_members(known.to_vec(), "test", "dead").await.unwrap_err();
        assert!(matches!(&error, CompareError::Rejected(joined) if joined.0 == "h:2"), "{error}");
    }
    assert_eq!(store.snapshot().members().len(), 2);
    store.remove_members(lives.clone(), "test", "dead").await.unwrap();
    assert_eq!(store.snapshot().members().len(), 0);
    let position = store.position();
    store.remove_members(lives, "test", "dead").await.unwrap();
    assert_eq!(store.position(), position, "who is gone is not written again");
}

/// The topic as a Java worker without exactly-once reads it.
async fn raw_reading(cluster: &Cluster) -> ClusterState {
    let reader = RawReader::default();
    let settings = log_settings(Isolation::ReadUncommitted);
    let log =
        super::super::topic_log::TopicLog::open(cluster.backend.clone(), "configs", settings, reader.clone()).await;
    drop(log.unwrap());
    reader.0.lock().unwrap().clone()
}

#[derive(Clone, Default)]
struct RawReader(Arc<std::sync::Mutex<ClusterState>>);

#[async_trait::async_trait]
impl super::super::topic_log::Fold for RawReader {
    async fn fold(&mut self, batch: &crate::backend::ReadBatch, _positions: &[i64]) {
        let mut state = self.0.lock().unwrap();
        for record in &batch.records {
            *state = super::super::fold::fold(std::mem::take(&mut state), record).0;
        }
    }
}

/// Who takes the transactional id over says again what the transactions of its former holder hide, and no write waits for that.
#[tokio::test(start_paused = true)]
async fn who_takes_the_id_over_restates_what_aborted_records_hide() {
    let cluster = Cluster::new().await;
    let first = cluster.configs().await;
    first.put(|state| create(state, "a")).await.unwrap();
    let killed = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
    killed.begin().unwrap();
    let half = plan::put_connector(&first.snapshot(), "a", config("half"), None);
    killed.send(&half.iter().map(|record| record.encode("configs")).collect::<Vec<_>>()).await.unwrap();
    let second = Arc::new(cluster.configs().await);
    let kept = second.clone();
    tokio::spawn(async move { kept.keep_restated().await });
    tokio::time::sleep(2 * aborted::LOOK_INTERVAL).await;
    let before = second.position();
    assert_eq!(second.aborted_keys(LIMIT).await.unwrap(), ["connector-a"], "a worker that writes nothing leaves it");
    second.put(|state| create(state, "b")).await.unwrap();
    assert!(second.snapshot().connector("b").unwrap().offset <= before + 2, "nothing is written in front of it");
    tokio::time::sleep(2 * aborted::FIRST_LOOK).await;
    assert_eq!(second.aborted_keys(LIMIT).await.unwrap(), [""; 0]);
    assert_eq!(second.snapshot().connector("a").unwrap().config, config("0"));
    // Once is enough: nothing is hidden by the own transactions.
    let restated = second.position();
    tokio::time::sleep(2 * aborted::LOOK_INTERVAL).await;
    assert_eq!(second.position(), restated);
}

/// Somebody wanted to evict a living worker, and its transaction was aborted. To say its record again would look like another life.
#[tokio::test(start_paused = true)]
async fn a_member_that_was_almost_evicted_keeps_its_life() {
    let cluster = Cluster::new().await;
    let store = open_member(cluster.backend.clone(), "w:1").await;
    let life = store.snapshot().member("w:1").unwrap().incarnation();
    let lost = cluster.backend.transactional_writer(&ClientSettings::new(), TRANSACTIONAL_ID, LIMIT).await.unwrap();
    lost.begin().unwrap();
    let gone = [plan::member_gone("w:1"), plan::member_joined("w:2", member(2))];
    lost.send(&gone.iter().map(|record| record.encode("configs")).collect::<Vec<_>>()).await.unwrap();
    lost.abort(LIMIT).await.unwrap();
    assert_eq!(store.aborted_keys(LIMIT).await.unwrap(), [""; 0]);
    assert_eq!(store.restate_aborted(LIMIT).await.unwrap(), 0);
    assert_eq!(store.snapshot().member("w:1").unwrap().incarnation(), life);
}

#[tokio::test(start_paused = true)]
async fn a_committer_that_crashes_is_the_end_of_the_log() {
    let cluster = Cluster::new().await;
    let store = cluster.configs().await;
    let error = store.put(|_| -> Result<Vec<ConfigRecord>, String> { panic!("on purpose") }).await.unwrap_err();
    assert!(matches!(error, CompareError::Unknown(_)), "{error}");
    let lost = tokio::time::timeout(LIMIT, store.log().lost()).await.unwrap();
    assert!(lost.to_string().contains("its committer crashed (on purpose)"), "{lost}");
}
