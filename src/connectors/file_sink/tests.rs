use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use connect_api::{ErrorKind, Record, SchemaAndValue, TimestampType};

use super::*;

fn records(values: &[Value]) -> Vec<SinkRecord> {
    let record = |(offset, value): (i64, &Value)| SinkRecord {
        record: Record::new("t", SchemaAndValue::new(None, value.clone())),
        timestamp_type: TimestampType::CreateTime,
        original: TopicPartition::new("t", 0),
        original_offset: offset,
    };
    (0..).zip(values).map(record).collect()
}

fn texts(texts: &[&str]) -> Vec<SinkRecord> {
    records(&texts.iter().map(|&text| Value::from(text)).collect::<Vec<_>>())
}

async fn started(file: &Path) -> Result<FileStreamSinkTask> {
    let mut task = FileStreamSinkTask::default();
    task.initialize(SinkTaskContext::default()).await?;
    task.start(Props::from([(FILE.to_owned(), file.to_str().expect("UTF-8").to_owned())])).await?;
    Ok(task)
}

#[tokio::test]
async fn appends_one_line_for_each_record() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("out.txt");
    fs::write(&file, "old\n").expect("write");
    let mut task = started(&file).await.unwrap();
    let list = Value::from(vec![Value::from(1i32), Value::from(1.0f64)]);
    task.put(&records(&["a".into(), Value::Null, 7i64.into(), list, bytes::Bytes::from_static(b"raw").into()]))
        .await
        .unwrap();
    task.put(&[]).await.unwrap();
    task.flush(&Offsets::new()).await.unwrap();
    assert_eq!(fs::read_to_string(&file).expect("read"), "old\na\nnull\n7\n[1, 1.0]\nraw\n");
}

#[tokio::test]
async fn a_removed_file_is_noticed_before_the_commit() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("out.txt");
    let mut task = started(&file).await.unwrap();
    task.put(&texts(&["a"])).await.unwrap();
    fs::remove_file(&file).expect("remove");
    let error = task.flush(&Offsets::new()).await.unwrap_err();
    assert!(error.message().contains("was removed"), "{error}");
}

#[tokio::test]
async fn a_torn_line_is_ended_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("out.txt");
    fs::write(&file, "whole\nto").expect("write");
    started(&file).await.unwrap().put(&texts(&["torn"])).await.unwrap();
    assert_eq!(fs::read_to_string(&file).expect("read"), "whole\nto\ntorn\n");
}

#[tokio::test]
async fn what_cannot_be_opened_fails_with_name_and_reason() {
    let directory = tempfile::tempdir().expect("a directory");
    for file in [directory.path().to_owned(), directory.path().join("no/such")] {
        let error = started(&file).await.err().expect("an error");
        assert_eq!(error.kind(), ErrorKind::Fatal);
        assert!(error.message().contains(file.to_str().expect("UTF-8")), "{error}");
    }
}

#[tokio::test]
async fn a_full_disk_is_retriable() {
    let mut task = started(Path::new("/dev/full")).await.unwrap();
    let error = task.put(&texts(&["a"])).await.unwrap_err();
    assert!(error.is_retriable(), "{error}");
    assert!(error.message().contains("/dev/full") && error.message().contains("No space"), "{error}");
}

/// Takes so many bytes and then says that the disk is full.
#[derive(Clone)]
struct Disk(Arc<Mutex<(Vec<u8>, usize)>>);

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (content, room) = &mut *self.0.lock().expect("not poisoned");
        let taken = bytes.len().min(*room);
        if taken == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        content.extend_from_slice(&bytes[..taken]);
        *room -= taken;
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_retry_writes_only_what_was_left() {
    let disk = Disk(Arc::new(Mutex::new((Vec::new(), 6))));
    let add_room = |bytes: usize| disk.0.lock().expect("not poisoned").1 += bytes;
    let mut task = FileStreamSinkTask {
        writer: Some(LineWriter::new(Output::Test(Box::new(disk.clone())))),
        ..FileStreamSinkTask::default()
    };
    let batch = texts(&["first", "second"]);
    for room in [0, 3] {
        add_room(room);
        assert!(task.put(&batch).await.unwrap_err().is_retriable());
    }
    add_room(100);
    task.put(&batch).await.unwrap();
    task.put(&texts(&["third"])).await.unwrap();
    assert_eq!(disk.0.lock().expect("not poisoned").0, b"first\nsecond\nthird\n");
}

#[tokio::test]
async fn another_batch_after_a_failed_one_starts_on_a_new_line() {
    let disk = Disk(Arc::new(Mutex::new((Vec::new(), 3))));
    let mut task = FileStreamSinkTask {
        writer: Some(LineWriter::new(Output::Test(Box::new(disk.clone())))),
        ..FileStreamSinkTask::default()
    };
    assert!(task.put(&texts(&["first"])).await.is_err());
    disk.0.lock().expect("not poisoned").1 = 100;
    task.put(&texts(&["a", "b"])).await.unwrap();
    assert_eq!(disk.0.lock().expect("not poisoned").0, b"first\na\nb\n");
}

#[tokio::test]
async fn has_the_tasks_that_were_asked_for() {
    let mut connector = FileStreamSinkConnector { props: Props::from([(FILE.into(), "/x".into())]) };
    assert_eq!(connector.task_configs(3).await.unwrap().len(), 3);
    assert!(connector.alter_offsets(&Props::new(), &Default::default()).await.unwrap());
}
