//! Readers that share clients keep the same contract, and nothing of one reaches another.

use super::*;

/// A backend whose readers all are [`Backend::shared_reader`]s.
struct Sharing(Subject);

#[async_trait::async_trait]
impl Backend for Sharing {
    fn writer(
        &self,
        settings: &ClientSettings,
        max_bytes: usize,
    ) -> connect_node::backend::Result<Arc<dyn RecordWriter>> {
        self.0.writer(settings, max_bytes)
    }

    async fn transactional_writer(
        &self,
        settings: &ClientSettings,
        transactional_id: &str,
        timeout: Duration,
    ) -> connect_node::backend::Result<Arc<dyn connect_node::backend::TransactionalWriter>> {
        self.0.transactional_writer(settings, transactional_id, timeout).await
    }

    fn reader(
        &self,
        settings: &ClientSettings,
        isolation: Isolation,
    ) -> connect_node::backend::Result<Box<dyn RecordReader>> {
        self.0.shared_reader(settings, isolation)
    }

    fn committed_offsets(&self) -> Arc<dyn connect_node::backend::CommittedOffsets> {
        self.0.committed_offsets()
    }

    fn admin(&self) -> Arc<dyn connect_node::backend::TopicAdmin> {
        self.0.admin()
    }
}

async fn kafka() -> Subject {
    let bootstrap = crate::support::broker().await.bootstrap();
    Arc::new(Sharing(connect_node::backend::kafka::open(bootstrap, &ClientSettings::new()).unwrap()))
}

macro_rules! on_kafka {
    ($($case:ident),* $(,)?) => {
        mod on_kafka {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    super::$case(super::kafka().await).await;
                }
            )*
        }
    };
}

reading_and!(on_kafka:
    readers_of_one_partition_do_not_disturb_each_other,
    a_reader_that_does_not_read_holds_up_nobody,
    a_partition_goes_from_reader_to_reader,
    a_dropped_reader_leaves_no_pause_behind,
    errors_reach_the_reader_of_their_partition,
    seeks_often,
);

fn values(numbers: std::ops::Range<i64>) -> Vec<(i64, String)> {
    numbers.map(|number| (number, number.to_string())).collect()
}

async fn readers_of_one_partition_do_not_disturb_each_other(backend: Subject) {
    let (topic, other) = (new_topic(&backend, 1).await, new_topic(&backend, 1).await);
    write(&writer(&backend), &numbered(&topic, 10)).await;
    write(&writer(&backend), &numbered(&other, 4)).await;
    let [mut one, mut two, mut three] = [(); 3].map(|()| from_start(&backend, &topic));
    assert_eq!(take(&mut one, 4).await, values(0..4));
    one.pause(&[at(&topic, 0)]).unwrap();
    assert_eq!(take(&mut two, 10).await, values(0..10));
    two.seek(&[(at(&topic, 0), 8)]).await.unwrap();
    two.add(&[(at(&other, 0), StartOffset::At(3))]).unwrap();
    assert_eq!(take(&mut three, 10).await, values(0..10));
    let mut both = take(&mut two, 3).await;
    both.sort();
    assert_eq!(both, [(3, "3".into()), (8, "8".into()), (9, "9".into())]);
    drop(two);
    nothing_comes(&mut one).await;
    one.resume(&[at(&topic, 0)]).unwrap();
    assert_eq!(take(&mut one, 6).await, values(4..10));
    write(&writer(&backend), &[record(&topic, "k", "10")]).await;
    for reader in [&mut one, &mut three] {
        assert_eq!(take(reader, 1).await, values(10..11));
    }
}

async fn a_reader_that_does_not_read_holds_up_nobody(backend: Subject) {
    // The client reads ten records ahead, or a few more, since it never stops within an answer.
    let settings = ClientSettings::from([
        ("queued.min.messages".to_owned(), "10".to_owned()),
        ("max.partition.fetch.bytes".to_owned(), "1000".to_owned()),
    ]);
    let (stuck, topic) = (new_topic(&backend, 1).await, new_topic(&backend, 1).await);
    write(&writer(&backend), &numbered(&stuck, 5000)).await;
    let open = |topic: &str| {
        let mut reader = backend.reader(&settings, Isolation::ReadUncommitted).unwrap();
        reader.assign(&[(at(topic, 0), StartOffset::Beginning)]).unwrap();
        reader
    };
    let (mut idle, mut reader) = (open(&stuck), open(&topic));
    for round in 0..20 {
        write(&writer(&backend), &numbered(&topic, 100)).await;
        assert_eq!(take(&mut reader, 100).await.last(), Some(&(round * 100 + 99, "99".into())));
    }
    assert_eq!(take(&mut idle, 5000).await, values(0..5000));
}

/// Whoever gets a partition gets all of it from where it wants it, and nothing that was read ahead for another one.
async fn a_partition_goes_from_reader_to_reader(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 100)).await;
    let partition = [at(&topic, 0)];
    let mut readers = [(); 3].map(|()| reader(&backend, Isolation::ReadUncommitted, &[]));
    for round in 0..60 {
        let reader = &mut readers[round % 3];
        let start = (round * 37 % 90) as i64;
        reader.add(&[(at(&topic, 0), StartOffset::At(start))]).unwrap();
        if round % 2 == 0 {
            assert_eq!(take(reader, 10).await, values(start..start + 10), "round {round}");
            assert_eq!(reader.position(&partition[0]), Some(start + 10));
        }
        if round % 5 == 0 {
            *reader = super::reader(&backend, Isolation::ReadUncommitted, &[]);
        } else {
            reader.remove(&partition).unwrap();
        }
    }
    for reader in &mut readers {
        nothing_comes(reader).await;
    }
}

async fn a_dropped_reader_leaves_no_pause_behind(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 3)).await;
    // Keeps the client.
    let _other = from_start(&backend, &new_topic(&backend, 1).await);
    for _ in 0..3 {
        let mut reader = from_start(&backend, &topic);
        assert_eq!(take(&mut reader, 3).await, values(0..3));
        reader.pause(&[at(&topic, 0)]).unwrap();
    }
    let mut reader = from_start(&backend, &topic);
    reader.pause(&[at(&topic, 0)]).unwrap();
    reader.assign(&[(at(&topic, 0), StartOffset::At(1))]).unwrap();
    assert_eq!(take(&mut reader, 2).await, values(1..3));
    reader.pause(&[at(&topic, 0)]).unwrap();
    reader.remove(&[at(&topic, 0)]).unwrap();
    reader.add(&[(at(&topic, 0), StartOffset::At(2))]).unwrap();
    assert_eq!(take(&mut reader, 1).await, values(2..3));
}

/// Of a partition that is not there a client says nothing, shared or not, so a lost position stands for all errors.
async fn errors_reach_the_reader_of_their_partition(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 2)).await;
    let mut good = from_start(&backend, &topic);
    let mut lost = reader(&backend, Isolation::ReadUncommitted, &[(at(&topic, 0), StartOffset::At(50))]);
    let (mut batch, deadline) = (ReadBatch::default(), tokio::time::Instant::now() + PATIENCE);
    let error = loop {
        assert!(tokio::time::Instant::now() < deadline, "no error came");
        match lost.read(&mut batch, 10, PATIENCE).await {
            Ok(()) => assert_eq!(batch.records, []),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, BackendError::OffsetOutOfRange(reason) if reason.contains(&topic)), "{error:?}");
    assert_eq!(take(&mut good, 2).await, values(0..2));
    nothing_comes(&mut good).await;
}

/// Each seek takes the partition off the client and puts it there again, while records of the former place are on their way.
async fn seeks_often(backend: Subject) {
    let topic = new_topic(&backend, 1).await;
    write(&writer(&backend), &numbered(&topic, 1000)).await;
    let mut reader = from_start(&backend, &topic);
    for round in 0..200 {
        let to = round * 611 % 990;
        reader.seek(&[(at(&topic, 0), to)]).await.unwrap();
        if round % 3 != 0 {
            assert_eq!(take(&mut reader, 5).await, values(to..to + 5), "round {round}");
        }
    }
}
