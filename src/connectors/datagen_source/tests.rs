use connect_api::{OffsetStorageReader, SchemaAndValue, SourceOffset, schema};

use super::*;

/// What the offset topic holds for the task 3.
struct Stored(Option<FieldMap>);

#[async_trait]
impl OffsetStorageReader for Stored {
    async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>> {
        assert_eq!(*partitions[0], FieldMap::new().with("task", 3i32));
        Ok(vec![self.0.clone().map(Arc::new); partitions.len()])
    }
}

fn props(settings: &[(&str, &str)]) -> Props {
    let common = [("topic", "made-up"), ("template", "orders"), ("rate", "0"), (TASK_NUMBER, "3")];
    common.iter().chain(settings).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

async fn started(stored: Option<FieldMap>, settings: &[(&str, &str)]) -> Result<DatagenSourceTask> {
    let mut task = DatagenSourceTask::default();
    task.initialize(SourceTaskContext::new(Arc::new(Stored(stored)))).await?;
    task.start(props(settings)).await?;
    Ok(task)
}

fn behind(sequence: i64) -> Option<FieldMap> {
    Some(FieldMap::new().with("sequence", sequence))
}

/// Everything but the present time.
fn content(records: Vec<SourceRecord>) -> Vec<SourceRecord> {
    let without_time = |mut record: SourceRecord| {
        assert!(record.timestamp.take().is_some_and(|now| now > 1_700_000_000_000));
        record
    };
    records.into_iter().map(without_time).collect()
}

#[tokio::test]
async fn the_same_seed_makes_the_same_records_and_another_one_others() {
    async fn made(settings: &[(&str, &str)]) -> Vec<SourceRecord> {
        content(started(None, settings).await.unwrap().poll().await.unwrap())
    }
    let first = made(&[]).await;
    assert_eq!(first.len(), 500);
    assert_eq!(first, made(&[]).await);
    assert_eq!(first, made(&[("seed", "0")]).await);
    assert_ne!(first, made(&[("seed", "1")]).await);
    let of_task_2 = settings::plan(&props(&[])).unwrap().recipe.record(2, 0).unwrap();
    assert_ne!(first[0].value, of_task_2.value, "each task has records of its own");
}

#[tokio::test]
async fn a_field_has_the_same_values_whatever_stands_beside_it() {
    let plan = |settings: &[(&str, &str)]| settings::plan(&props(settings)).unwrap();
    let (all, one) = (plan(&[]), plan(&[("fields", "price")]));
    for sequence in 0..100 {
        let price = |plan: &Plan| match plan.recipe.record(3, sequence).unwrap().value.value {
            Value::Struct(value) => value.get("price").unwrap().clone(),
            other => panic!("{other}"),
        };
        assert_eq!(price(&all), price(&one));
    }
}

#[tokio::test]
async fn a_task_goes_on_exactly_where_the_offset_says() {
    let mut whole = started(None, &[("batch.size", "100")]).await.unwrap();
    let whole = content([whole.poll().await.unwrap(), whole.poll().await.unwrap()].concat());
    assert_eq!(whole.len(), 200);
    for (at, record) in (1i64..).zip(&whole) {
        assert_eq!(*record.source_offset, FieldMap::new().with("sequence", at));
        assert_eq!(*record.source_partition, FieldMap::new().with("task", 3i32));
    }
    for at in [0, 1, 77, 199] {
        let offset = whole[..at].last().map(|record| (*record.source_offset).clone());
        let mut resumed = started(offset, &[("batch.size", "100")]).await.unwrap();
        let resumed = content(resumed.poll().await.unwrap());
        let expected = &whole[at..200.min(at + 100)];
        assert_eq!(resumed[..expected.len()], *expected, "from {at} on");
    }
}

#[tokio::test]
async fn a_task_is_idle_behind_its_count() {
    let mut task = started(behind(7), &[("count", "10")]).await.unwrap();
    assert_eq!(task.poll().await.unwrap().len(), 3);
    assert_eq!(task.poll().await.unwrap().len(), 0);
    assert_eq!(task.poll_interval(), Duration::from_secs(1));
    let mut task = started(behind(11), &[("count", "10")]).await.unwrap();
    assert_eq!(task.poll().await.unwrap().len(), 0);
    let mut task = started(behind(i64::MAX - 1), &[]).await.unwrap();
    assert_eq!(task.poll().await.unwrap().len(), 1);
    assert_eq!(task.poll().await.unwrap().len(), 0, "there are no more numbers");
}

#[tokio::test(start_paused = true)]
async fn the_rate_is_kept_by_the_intervals_between_polls() {
    let mut task = started(None, &[("rate", "10")]).await.unwrap();
    let began = Instant::now();
    let mut count = 0;
    while count < 21 {
        match task.poll().await.unwrap().len() {
            0 => tokio::time::advance(task.poll_interval()).await,
            records => count += records,
        }
    }
    assert_eq!(count, 21);
    let passed = began.elapsed();
    assert!((Duration::from_millis(1990)..=Duration::from_millis(2100)).contains(&passed), "{passed:?}");
    tokio::time::advance(Duration::from_secs(30)).await;
    assert_eq!(task.poll().await.unwrap().len(), 300, "what was held back is made up for");
}

/// Also a promise: later versions make the same records.
#[tokio::test]
async fn a_record_has_the_fields_in_order_one_shared_schema_and_the_key() {
    let settings = [
        ("fields", "order_id,item,price,ordered_at,day,note,by"),
        ("key.field", "item"),
        ("field.day.type", "date"),
        ("field.note.type", "word"),
        ("field.note.null.percent", "100"),
        ("field.by.type", "task"),
    ];
    let mut task = started(behind(41), &settings).await.unwrap();
    let records = task.poll().await.unwrap();
    let SchemaAndValue { schema: Some(schema), value: Value::Struct(value) } = &records[0].value else {
        panic!("{:?}", records[0].value)
    };
    assert!(records.iter().all(|record| record.value.schema.as_ref().is_some_and(|other| Arc::ptr_eq(other, schema))));
    let shape: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| {
            let schema = &field.schema;
            let name = schema.name().map(|name| name.rsplit('.').next().unwrap()).unwrap_or("");
            format!("{} {} {name} {}", field.name, schema.schema_type().name(), schema.is_optional())
        })
        .collect();
    assert_eq!(
        shape,
        [
            "order_id INT64  false",
            "item STRING  false",
            "price FLOAT64  false",
            "ordered_at INT64 Timestamp false",
            "day INT32 Date false",
            "note STRING  true",
            "by INT32  false",
        ]
    );
    assert_eq!(
        value.values(),
        [
            Value::Int64(42),
            Value::from("chair"),
            Value::Float64(124.39),
            Value::Timestamp(1_767_225_641_000),
            Value::Date(20_495),
            Value::Null,
            Value::Int32(3),
        ]
    );
    assert_eq!(records[0].key, SchemaAndValue::new(schema::STRING.clone(), "chair"));
    assert_eq!((&*records[0].topic, records[0].kafka_partition), ("made-up", None));
}

#[tokio::test]
async fn what_cannot_work_fails_the_start() {
    let context = || {
        struct Nothing;
        impl connect_api::connector::ConnectorRuntime for Nothing {
            fn request_task_reconfiguration(&self) {}
            fn raise_error(&self, error: ConnectError) {
                panic!("{error}");
            }
            fn offset_storage_reader(&self) -> Arc<dyn OffsetStorageReader> {
                Arc::new(Stored(None))
            }
        }
        ConnectorContext::new(Arc::new(Nothing))
    };
    let mut connector = DatagenSourceConnector::default();
    let error = connector.start(context(), props(&[("field.price.max", "0")])).await.unwrap_err();
    assert!(error.message().starts_with("field.price.min: "), "{error}");
    connector.start(context(), props(&[])).await.unwrap();
    let configs = connector.task_configs(2).await.unwrap();
    assert_eq!(configs.iter().map(|config| &*config[TASK_NUMBER]).collect::<Vec<_>>(), ["0", "1"]);

    for number in ["", "-1", "x"] {
        assert!(started(None, &[(TASK_NUMBER, number)]).await.is_err(), "{number:?}");
    }
    for offset in [FieldMap::new(), FieldMap::new().with("sequence", -1i64), FieldMap::new().with("sequence", "1")] {
        let error = started(Some(offset), &[]).await.err().unwrap();
        assert!(error.message().contains("sequence"), "{error}");
    }
    assert!(DatagenSourceTask::default().start(props(&[])).await.is_err());
    let mut task = started(None, &[]).await.unwrap();
    task.stop().await.unwrap();
    assert!(task.poll().await.is_err());
}

#[tokio::test]
async fn changed_offsets_are_checked() {
    let mut connector = DatagenSourceConnector::default();
    let sequence = |number: i64| FieldMap::new().with("sequence", number);
    let task = |number: i64| FieldMap::new().with("task", number);
    for (partition, offset, is_good) in [
        (Some(task(0)), Some(sequence(0)), true),
        (Some(task(9)), Some(sequence(i64::MAX)), true),
        (Some(FieldMap::new()), None, true),
        (None, None, true),
        (None, Some(sequence(1)), false),
        (Some(FieldMap::new()), Some(sequence(1)), false),
        (Some(task(-1)), Some(sequence(1)), false),
        (Some(task(1 << 31)), Some(sequence(1)), false),
        (Some(FieldMap::new().with("task", "0")), Some(sequence(1)), false),
        (Some(task(0).with("more", 1i64)), Some(sequence(1)), false),
        (Some(task(0)), Some(sequence(-1)), false),
        (Some(task(0)), Some(FieldMap::new()), false),
        (Some(task(0)), Some(FieldMap::new().with("sequence", 1.5)), false),
    ] {
        let change = (partition.map(Arc::new), offset.map(Arc::new));
        let altered = connector.alter_offsets(&Props::new(), std::slice::from_ref(&change)).await;
        assert_eq!(altered.is_ok(), is_good, "{change:?}: {altered:?}");
    }
    assert_eq!(connector.exactly_once_support(&Props::new()), ExactlyOnceSupport::Supported);
}
