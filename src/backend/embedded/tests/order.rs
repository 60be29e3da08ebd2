//! Records that an error of the disk gave back are sent again, as tasks do it; none has passed them meanwhile.

use super::*;

const RECORDS: usize = 4000;
/// Records of one `send`.
const BATCH: usize = 10;
/// Bytes under way, so few that there are many groups.
const MAX_BYTES: usize = 500;

/// Sends numbers until all are acknowledged. After a failure nothing more is sent until all that is under way is answered.
async fn send_all(writer: &Arc<dyn RecordWriter>, disk: &SimulatedDisk, random: &mut fastrand::Rng) -> usize {
    let records: Vec<_> = (0..RECORDS).map(|number| keyed("k", Some(&number.to_string()), 1)).collect();
    let (mut unsent, mut unacknowledged, mut failures) = ((0..RECORDS).collect::<Vec<_>>(), Vec::new(), 0);
    let (mut acks, mut first_sequence, mut settling) = (Vec::new(), 0, false);
    unsent.reverse();
    // The last answers may come behind the last look at them.
    while !unsent.is_empty() || settling || unacknowledged.iter().any(|(_, is_there)| !is_there) {
        if !settling {
            let batch: Vec<_> = unsent.iter().rev().take(BATCH).map(|number| records[*number].clone()).collect();
            let taken = writer.send(&batch).unwrap();
            unacknowledged.extend(unsent.drain(unsent.len() - taken..).rev().map(|number| (number, false)));
        }
        tokio::task::yield_now().await;
        writer.take_acks(&mut acks);
        for ack in acks.drain(..) {
            match ack {
                Ack::Delivered { first, count, .. } => {
                    let from = (first - first_sequence) as usize;
                    unacknowledged[from..from + count as usize].iter_mut().for_each(|(_, is_there)| *is_there = true);
                }
                Ack::Failed { error, .. } => {
                    assert!(error.is_retriable() || matches!(error, crate::backend::BackendError::Purged), "{error:?}");
                    (settling, failures) = (true, failures + 1);
                }
            }
        }
        if settling && writer.in_flight() == 0 {
            first_sequence += unacknowledged.len() as u64;
            let back = unacknowledged.drain(..).filter(|(_, is_there)| !is_there).map(|(number, _)| number);
            unsent.extend(back.collect::<Vec<_>>().into_iter().rev());
            settling = false;
        }
        if random.usize(..20) == 0 {
            disk.fail_after(random.usize(..40), random.bool());
        }
    }
    failures
}

#[tokio::test]
async fn what_was_given_back_is_passed_by_nothing() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    let mut random = fastrand::Rng::with_seed(7);
    let writer = backend.writer(&ClientSettings::new(), MAX_BYTES).unwrap();
    let failures = send_all(&writer, &disk, &mut random).await;
    assert!(failures > 0, "no record met an error");
    let mut next = 0;
    for value in values(&backend, Isolation::ReadCommitted).await {
        let number: usize = value.parse().unwrap();
        assert!(number <= next, "{number} has passed {next}");
        next = next.max(number + 1);
    }
    assert_eq!(next, RECORDS);
}

/// Records that are in memory are delivered at once. A partition whose records are in the store only has its turn all the same.
#[tokio::test]
async fn new_records_of_one_partition_do_not_hold_up_old_ones_of_another() {
    let disk = SimulatedDisk::new();
    let backend = start(&disk).unwrap();
    send(&writer(&backend), &[keyed("k", Some("old"), 1)]).await;
    drop(backend);
    // Nothing is in memory now.
    let backend = start(&disk.cut(|_| false)).unwrap();
    let live = writer(&backend);
    let new = || [ProducerRecord::keyed("live", "k", Some("new".into()))];
    send(&live, &new()).await;
    let (old, hot) = (TopicPartition::new(TOPIC, 0), TopicPartition::new("live", 0));
    let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
    reader.assign(&[(hot, StartOffset::Beginning), (old.clone(), StartOffset::Beginning)]).unwrap();
    let mut batch = ReadBatch::default();
    for _ in 0..20 {
        reader.read(&mut batch, 1, PATIENCE).await.unwrap();
        if reader.position(&old) == Some(1) {
            return;
        }
        send(&live, &new()).await;
    }
    panic!("the old record was not delivered");
}
