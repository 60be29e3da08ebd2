//! A step of the disk fails once. What the group that met it is told is no more than what is there, and what follows fits.

use super::*;
use crate::backend::BackendError;

/// Steps of the disk in each of which one run meets its error: more than its groups take.
const STEPS: usize = 60;
/// Groups that are written: how many records, and how many bytes each value has. Their rows begin at different offsets, so that a row
/// of an earlier group would show between those of a later one.
const GROUPS: [(usize, usize); 3] = [(7, 50_000), (2, 10_000), (5, 40_000)];

fn group(number: usize) -> Vec<ProducerRecord> {
    let (count, bytes) = GROUPS[number];
    let value = |at| format!("{:<bytes$}", format!("{number}-{at}"));
    (0..count).map(|at| keyed("k", Some(&value(at)), 1)).collect()
}

/// Offsets of records with the first characters of their values.
async fn content(backend: &EmbeddedBackend) -> Vec<(i64, String)> {
    let all = all(backend, Isolation::ReadCommitted).await;
    all.into_iter().map(|(offset, _, value)| (offset, value.unwrap().trim_end().to_owned())).collect()
}

async fn check(steps: usize, lands: bool) -> usize {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let writer = writer(&backend);
    // What a killed process left open is aborted whatever the disk does meanwhile.
    let open = backend.transactional_writer(&ClientSettings::new(), "open", PATIENCE).await.unwrap();
    open.begin().unwrap();
    open.send(&[keyed("k", Some("open"), 1)]).await.unwrap();
    let disk = disk.cut(|_| true);
    drop((writer, open, backend));
    disk.fail_after(steps, lands);
    let backend = match start(&disk) {
        Ok(backend) => backend,
        Err(_) => start(&disk).unwrap(),
    };
    let writer = backend.writer(&ClientSettings::new(), 8 << 20).unwrap();
    let (mut acknowledged, mut failures) = (Vec::new(), 0);
    for number in 0..GROUPS.len() {
        let (records, mut sequence) = (group(number), 0);
        for ack in send(&writer, &records).await {
            match ack {
                Ack::Delivered { count, offset, .. } => {
                    let values = (0..count).map(|at| (offset + at as i64, format!("{number}-{}", sequence + at)));
                    acknowledged.extend(values);
                    sequence += count;
                }
                Ack::Failed { error, .. } => {
                    assert!(error.is_retriable(), "{error:?}");
                    (sequence, failures) = (sequence + 1, failures + 1);
                }
            }
        }
    }
    // The next write opens the store again.
    while !matches!(send(&writer, &[keyed("k", Some("end"), 1)]).await[..], [Ack::Delivered { .. }]) {}
    let found = content(&backend).await;
    let context = format!("failed after {steps} steps, lands: {lands}");
    assert!(found.is_sorted_by(|one, two| one.0 < two.0), "{context}: {found:?}");
    assert!(acknowledged.iter().all(|known| found.contains(known)), "{context}: {acknowledged:?} of {found:?}");
    let again = start(&disk.cut(|_| true)).unwrap();
    assert_eq!(content(&again).await, found, "{context}");
    assert_eq!(again.store.view().meta.topics, backend.store.view().meta.topics, "{context}");
    failures
}

#[tokio::test]
async fn without_a_write_it_is_opened_again_by_itself() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    send(&writer(&backend), &[keyed("k", Some("value"), 1)]).await;
    drop(backend);
    // Opened anew it has nothing in memory to read from.
    let backend = start(&disk).unwrap();
    disk.fail_after(0, false);
    let commit = backend.committed_offsets().commit("group", &[(TopicPartition::new(TOPIC, 0), 1)]).await;
    assert!(commit.as_ref().is_err_and(BackendError::is_retriable), "{commit:?}");
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new(TOPIC, 0), StartOffset::Beginning)]).unwrap();
    let (mut batch, deadline) = (ReadBatch::default(), std::time::Instant::now() + PATIENCE);
    while let Err(error) = reader.read(&mut batch, 10, PATIENCE).await {
        assert!(error.is_retriable() && std::time::Instant::now() < deadline, "{error:?}");
    }
    assert_eq!(batch.records.len(), 1);
}

#[tokio::test]
async fn after_an_error_of_a_read_it_is_opened_again_by_itself() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let large = "v".repeat(LARGE_BYTES);
    send(&writer(&backend), &[keyed("k", Some(&large), 1), keyed("k", Some(&large), 1)]).await;
    fill_cache(&backend).await;
    drop(backend);
    let backend = start(&disk).unwrap();
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(TopicPartition::new(TOPIC, 0), StartOffset::Beginning)]).unwrap();
    disk.fail_reads(1);
    let (mut batch, mut errors, deadline) = (ReadBatch::default(), 0, std::time::Instant::now() + PATIENCE);
    while let Err(error) = reader.read(&mut batch, 10, PATIENCE).await {
        errors += 1;
        assert!(error.is_retriable() && std::time::Instant::now() < deadline, "{error:?}");
    }
    assert!(errors > 0, "no read met the error");
    assert_eq!(batch.records.len(), 2);
    let acks = send(&writer(&backend), &[keyed("k", Some("next"), 1)]).await;
    assert!(matches!(acks[..], [Ack::Delivered { offset: 2, .. }]), "{acks:?}");
}

#[tokio::test]
async fn an_error_of_the_disk_leaves_no_doubt_behind() {
    let mut failures = 0;
    for steps in 0..STEPS {
        for lands in [false, true] {
            failures += check(steps, lands).await;
        }
    }
    assert!(failures > 0, "no group met an error");
}
