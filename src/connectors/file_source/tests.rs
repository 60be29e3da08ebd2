use std::fs;
use std::io::Write;
use std::path::Path;

use connect_api::{ErrorKind, OffsetStorageReader};

use super::*;

/// What the offset topic holds for every partition.
struct Stored(Option<i64>);

#[async_trait]
impl OffsetStorageReader for Stored {
    async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>> {
        let offset = self.0.map(|position| Arc::new(FieldMap::new().with(POSITION, position)));
        Ok(vec![offset; partitions.len()])
    }
}

fn props(file: &Path, batch_size: &str) -> Props {
    let file = file.to_str().expect("UTF-8");
    [(FILE, file), (TOPIC, "lines"), (BATCH_SIZE, batch_size)]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
}

async fn started(file: &Path, stored: Option<i64>) -> Result<FileStreamSourceTask> {
    let mut task = FileStreamSourceTask::default();
    task.initialize(SourceTaskContext::new(Arc::new(Stored(stored)))).await?;
    task.start(props(file, "2")).await?;
    Ok(task)
}

async fn lines(task: &mut FileStreamSourceTask) -> Result<Vec<(String, i64)>> {
    let records = task.poll().await?;
    Ok(records
        .iter()
        .map(|record| {
            let position = record.source_offset.get(POSITION).and_then(Value::as_i64).expect("a position");
            (record.value.value.to_string(), position)
        })
        .collect())
}

fn found(lines: &[(&str, i64)]) -> Vec<(String, i64)> {
    lines.iter().map(|&(text, position)| (text.to_owned(), position)).collect()
}

fn append(file: &Path, text: &str) {
    let mut open = fs::OpenOptions::new().append(true).create(true).open(file).expect("open");
    open.write_all(text.as_bytes()).expect("write");
}

#[tokio::test]
async fn records_are_those_of_java() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("in.txt");
    append(&file, "one\n");
    let record = started(&file, None).await.unwrap().poll().await.unwrap().remove(0);
    assert_eq!(record.topic, "lines");
    assert_eq!(record.value, SchemaAndValue::new(schema::STRING.clone(), "one"));
    assert_eq!(record.key, SchemaAndValue::NULL);
    assert!(record.timestamp.is_some_and(|now| now > 1_700_000_000_000) && record.kafka_partition.is_none());
    assert_eq!(*record.source_partition, FieldMap::new().with(FILENAME, file.to_str().expect("UTF-8")));
    assert_eq!(*record.source_offset, FieldMap::new().with(POSITION, 4i64));
}

#[tokio::test]
async fn reads_batches_and_waits_for_the_end_of_a_line() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("in.txt");
    append(&file, "one\ntwo\nthree\nfo");
    let mut task = started(&file, None).await.unwrap();
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("one", 4), ("two", 8)]));
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("three", 14)]));
    assert_eq!(lines(&mut task).await.unwrap(), []);
    append(&file, "ur\n");
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("four", 19)]));
}

#[tokio::test]
async fn goes_on_at_the_committed_position() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("in.txt");
    append(&file, "one\ntwo\n");
    let mut task = started(&file, Some(4)).await.unwrap();
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("two", 8)]));
}

#[tokio::test]
async fn waits_for_a_missing_file_and_keeps_the_position_of_a_vanished_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, aside) = (directory.path().join("in.txt"), directory.path().join("aside.txt"));
    let mut task = started(&file, None).await.unwrap();
    assert_eq!(lines(&mut task).await.unwrap(), []);
    append(&file, "one\n");
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("one", 4)]));
    fs::rename(&file, &aside).expect("rename");
    assert_eq!(lines(&mut task).await.unwrap(), []);
    append(&aside, "two\n");
    fs::rename(&aside, &file).expect("rename");
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("two", 8)]));
}

#[tokio::test]
async fn a_rotated_file_is_read_to_its_end_and_the_new_one_from_its_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let (file, old) = (directory.path().join("in.txt"), directory.path().join("in.txt.1"));
    append(&file, "one\n");
    let mut task = started(&file, None).await.unwrap();
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("one", 4)]));
    append(&file, "two\n");
    fs::rename(&file, &old).expect("rename");
    append(&file, "new\n");
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("two", 8)]));
    assert_eq!(lines(&mut task).await.unwrap(), [], "the end is noticed");
    assert_eq!(lines(&mut task).await.unwrap(), found(&[("new", 4)]));
}

#[tokio::test]
async fn a_cut_file_is_an_error_that_names_file_position_and_size() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("in.txt");
    append(&file, "one\ntwo\n");
    let mut task = started(&file, None).await.unwrap();
    assert_eq!(lines(&mut task).await.unwrap().len(), 2);
    fs::write(&file, "x\n").expect("write");
    let error = task.poll().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Fatal);
    for part in [file.to_str().expect("UTF-8"), "2 bytes", "byte 8"] {
        assert!(error.message().contains(part), "{error}");
    }
    assert!(started(&file, Some(3)).await.is_err(), "also at the start");
}

#[tokio::test]
async fn what_is_no_file_fails_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let error = started(directory.path(), None).await.err().expect("an error");
    assert!(error.message().contains("a directory"), "{error}");
    assert!(started(Path::new("/dev/null"), None).await.is_err());
}

#[tokio::test]
async fn long_lines_pass_up_to_the_bound() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("in.txt");
    let long = "x".repeat(1 << 20);
    append(&file, &format!("{long}\nshort\n"));
    let mut task = started(&file, None).await.unwrap();
    let read = lines(&mut task).await.unwrap();
    assert_eq!((read[0].0.len(), read[1].0.as_str()), (1 << 20, "short"));
    append(&file, &"y".repeat(MAX_LINE_BYTES + 1));
    let error = task.poll().await.unwrap_err();
    assert!(error.message().contains(&format!("the line at byte {}", (1 << 20) + 7)), "{error}");
}

#[tokio::test]
async fn has_one_task_and_checks_changed_offsets() {
    let mut connector = FileStreamSourceConnector::default();
    let props = props(Path::new("/x"), "5");
    let change = |partition: FieldMap, offset: FieldMap| (Some(Arc::new(partition)), Some(Arc::new(offset)));
    let file = FieldMap::new().with(FILENAME, "/y");
    for (offsets, good) in [
        (change(file.clone(), FieldMap::new().with(POSITION, 3i64)), true),
        ((None, None), true),
        (change(file.clone(), FieldMap::new()), false),
        (change(file.clone(), FieldMap::new().with(POSITION, -1i64)), false),
        (change(file, FieldMap::new().with(POSITION, "3")), false),
        (change(FieldMap::new(), FieldMap::new().with(POSITION, 3i64)), false),
        ((None, Some(Arc::new(FieldMap::new().with(POSITION, 3i64)))), false),
    ] {
        assert_eq!(connector.alter_offsets(&props, std::slice::from_ref(&offsets)).await.is_ok(), good, "{offsets:?}");
    }
    assert!(connector.alter_offsets(&Props::from([(TOPIC.into(), "t".into())]), &[]).await.is_err());
    assert_eq!(connector.exactly_once_support(&props), ExactlyOnceSupport::Supported);
    connector.props = props.clone();
    assert_eq!(connector.task_configs(7).await.unwrap(), [props]);
}

#[test]
fn the_settings_are_those_of_java() {
    let shown: Vec<_> = definition()
        .keys()
        .iter()
        .map(|key| (key.name.clone(), key.setting_type, key.is_required(), key.default_text(), key.importance))
        .collect();
    assert_eq!(
        shown,
        [
            (FILE.to_owned(), Type::String, false, None, Importance::High),
            (TOPIC.to_owned(), Type::String, true, None, Importance::High),
            (BATCH_SIZE.to_owned(), Type::Int, false, Some("2000".to_owned()), Importance::Low),
        ]
    );
}

#[test]
fn a_file_that_does_not_grow_is_looked_at_less_and_less_often() {
    let intervals = [0, 1, 2, 3, 4, 5, 6, u32::MAX].map(|empty| super::poll_interval(empty).as_millis());
    assert_eq!(intervals, [100, 100, 200, 400, 800, 1000, 1000, 1000]);
}
