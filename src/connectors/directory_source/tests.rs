use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use connect_api::connector::ConnectorRuntime;
use connect_api::{OffsetStorageReader, SourceOffset};

use super::*;

/// What the offset topic holds; counts how often it is asked.
#[derive(Default)]
struct Stored {
    positions: Vec<(String, i64)>,
    asked: AtomicUsize,
}

#[async_trait]
impl OffsetStorageReader for Stored {
    async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let offset = |partition: &SourcePartition| {
            let name = partition.get(FILENAME)?.as_str()?;
            let (_, position) = self.positions.iter().find(|(stored, _)| stored == name)?;
            Some(Arc::new(FieldMap::new().with(POSITION, *position)))
        };
        Ok(partitions.iter().map(offset).collect())
    }
}

/// What the connector asked for.
#[derive(Default)]
struct Runtime {
    requests: AtomicUsize,
    requested: tokio::sync::Notify,
}

impl ConnectorRuntime for Runtime {
    fn request_task_reconfiguration(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        self.requested.notify_one();
    }
    fn raise_error(&self, error: ConnectError) {
        panic!("{error}");
    }
    fn offset_storage_reader(&self) -> Arc<dyn OffsetStorageReader> {
        Arc::new(Stored::default())
    }
}

fn props(directory: &Path, more: &[(&str, &str)]) -> Props {
    let common = [(DIRECTORY, directory.to_str().unwrap()), (TOPIC, "lines"), (SCAN_INTERVAL_MS, "50")];
    common.iter().chain(more).map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

async fn started(directory: &Path, more: &[(&str, &str)]) -> (DirectorySourceConnector, Arc<Runtime>) {
    let (mut connector, runtime) = (DirectorySourceConnector::default(), Arc::new(Runtime::default()));
    connector.start(ConnectorContext::new(runtime.clone()), props(directory, more)).await.unwrap();
    (connector, runtime)
}

/// The names that each task is to read.
async fn division(connector: &mut DirectorySourceConnector, tasks_max: usize) -> Vec<Vec<String>> {
    let configs = connector.task_configs(tasks_max).await.unwrap();
    configs.iter().map(|config| serde_json::from_str(&config[TASK_FILES]).unwrap()).collect()
}

async fn task(props: Props, stored: Arc<Stored>) -> Result<DirectorySourceTask> {
    let mut task = DirectorySourceTask::default();
    task.initialize(SourceTaskContext::new(stored)).await?;
    task.start(props).await?;
    Ok(task)
}

#[tokio::test]
async fn files_are_divided_evenly() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["e.log", "a.log", "c.log", "b.log", "d.log", "x.txt"] {
        fs::write(directory.path().join(name), "").unwrap();
    }
    let (mut connector, _) = started(directory.path(), &[(FILE_PATTERN, "*.log")]).await;
    assert_eq!(division(&mut connector, 2).await, [vec!["a.log", "b.log", "c.log"], vec!["d.log", "e.log"]]);
    assert_eq!(division(&mut connector, 9).await.len(), 5, "no task without a file");
    let again = connector.task_configs(2).await.unwrap();
    assert_eq!(again, connector.task_configs(2).await.unwrap(), "equal answers restart nothing");
}

#[tokio::test]
async fn tasks_are_configured_anew_when_files_come_or_go_and_never_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (mut connector, runtime) = started(directory.path(), &[]).await;
    assert_eq!(division(&mut connector, 3).await, Vec::<Vec<String>>::new());
    fs::write(path("a"), "").unwrap();
    runtime.requested.notified().await;
    assert_eq!(division(&mut connector, 3).await, [["a"]]);
    fs::rename(path("a"), path("b")).unwrap();
    runtime.requested.notified().await;
    while division(&mut connector, 3).await != [["b"]] {
        // Between the two names of a rename a look may have found neither.
        runtime.requested.notified().await;
    }
    let requests = runtime.requests.load(Ordering::Relaxed);
    fs::write(path("b"), "longer\n").unwrap();
    fs::create_dir(path("below")).unwrap();
    fs::write(path(".hidden"), "").unwrap();
    // Each of these looks comes after the changes above, and the file afterwards proves that there were some.
    for _ in 0..3 {
        let names = Arc::new(Mutex::new(vec!["b".to_owned()]));
        let found = Directory { path: directory.path().into(), pattern: Glob::new("*") }.scan().await.unwrap();
        assert!(!replace_if_changed(&names, found.names));
    }
    assert_eq!(runtime.requests.load(Ordering::Relaxed), requests);
    fs::write(path("c"), "").unwrap();
    runtime.requested.notified().await;
    assert_eq!(runtime.requests.load(Ordering::Relaxed), requests + 1);
    connector.stop().await.unwrap();
    assert!(connector.watch.is_empty());
}

#[tokio::test]
async fn a_directory_that_cannot_be_listed_keeps_its_files() {
    let directory = tempfile::tempdir().unwrap();
    let inside = directory.path().join("inside");
    let aside = directory.path().join("aside");
    fs::create_dir(&inside).unwrap();
    fs::write(inside.join("a"), "").unwrap();
    let (mut connector, runtime) = started(&inside, &[]).await;
    fs::rename(&inside, &aside).unwrap();
    let lost = Directory { path: inside.clone(), pattern: Glob::new("*") };
    assert!(lost.scan().await.is_err());
    fs::write(aside.join("b"), "").unwrap();
    fs::rename(&aside, &inside).unwrap();
    runtime.requested.notified().await;
    assert_eq!(division(&mut connector, 1).await, [["a", "b"]]);
    assert_eq!(runtime.requests.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn what_cannot_work_fails_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let context = || ConnectorContext::new(Arc::new(Runtime::default()));
    let error = DirectorySourceConnector::default().start(context(), props(&missing, &[])).await.unwrap_err();
    assert!(error.message().contains(missing.to_str().unwrap()), "{error}");
    for setting in [(FILE_PATTERN, "a/b"), (FILE_PATTERN, ""), (BATCH_SIZE, "0"), (SCAN_INTERVAL_MS, "1"), (TOPIC, "")]
    {
        let props = props(directory.path(), &[setting]);
        assert!(DirectorySourceConnector::default().start(context(), props).await.is_err(), "{setting:?}");
    }
    let stored = Arc::new(Stored::default());
    assert!(task(props(directory.path(), &[]), stored.clone()).await.is_err(), "no files");
    assert!(task(props(directory.path(), &[(TASK_FILES, "a,b")]), stored).await.is_err());
}

#[tokio::test]
async fn names_that_do_not_fit_in_the_config_topic_are_an_error() {
    let names: Vec<String> = (0..4000).map(|number| format!("{number:0>200}")).collect();
    let error = task_config(&Props::new(), &names).unwrap_err();
    assert!(error.message().contains("4000 files") && error.message().contains("tasks.max"), "{error}");
    assert!(task_config(&Props::new(), &names[..3000]).is_ok());
}

#[tokio::test]
async fn records_go_on_behind_the_stored_positions_in_batches() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a"), "one\ntwo\nthree\n").unwrap();
    fs::write(path("b\n"), "x\n").unwrap();
    let name_of = |name: &str| path(name).to_str().unwrap().to_owned();
    let stored = Arc::new(Stored { positions: vec![(name_of("a"), 4)], asked: AtomicUsize::new(0) });
    let props = props(directory.path(), &[(TASK_FILES, r#"["a","b\n","gone"]"#), (BATCH_SIZE, "2")]);
    let mut task = task(props, stored.clone()).await.unwrap();
    assert_eq!(stored.asked.load(Ordering::Relaxed), 1, "all offsets are read at once");
    let first = task.poll().await.unwrap();
    assert_eq!(first.len(), 2);
    assert_eq!(*first[0].source_partition, FieldMap::new().with("filename", name_of("a")));
    assert_eq!(*first[0].source_offset, FieldMap::new().with("position", 8i64));
    assert_eq!(first[0].value, SchemaAndValue::new(schema::STRING.clone(), "two"));
    assert_eq!((&*first[0].topic, &first[0].key), ("lines", &SchemaAndValue::NULL));
    assert!(first[0].timestamp.is_some_and(|now| now > 1_700_000_000_000) && first[0].kafka_partition.is_none());
    assert_eq!(first[1].value.value, Value::from("three"));
    let second = task.poll().await.unwrap();
    assert_eq!(second.len(), 1);
    assert_eq!(*second[0].source_partition, FieldMap::new().with("filename", name_of("b\n")));
    assert_eq!(task.poll().await.unwrap().len(), 0);
}

#[tokio::test]
async fn an_offset_that_is_no_position_fails_the_task() {
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("a").to_str().unwrap().to_owned();
    let stored = Stored { positions: vec![(name, -1)], ..Stored::default() };
    assert!(task(props(directory.path(), &[(TASK_FILES, r#"["a"]"#)]), Arc::new(stored)).await.is_err());
}

#[tokio::test]
async fn a_failure_after_a_batch_says_so_at_the_next_poll() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("a"), "one\ntwo\n").unwrap();
    let props = props(directory.path(), &[(TASK_FILES, r#"["a"]"#)]);
    let mut task = task(props, Arc::new(Stored::default())).await.unwrap();
    assert_eq!(task.poll().await.unwrap().len(), 2);
    fs::write(directory.path().join("a"), "x").unwrap();
    assert!(task.poll().await.is_err());
    assert!(task.stop().await.is_ok());
    assert!(task.poll().await.is_err());
}

#[tokio::test]
async fn changed_offsets_are_checked() {
    let mut connector = DirectorySourceConnector::default();
    let change = |offset: FieldMap| (Some(Arc::new(FieldMap::new().with(FILENAME, "/y"))), Some(Arc::new(offset)));
    assert!(connector.alter_offsets(&Props::new(), &[change(FieldMap::new().with(POSITION, 3i64))]).await.unwrap());
    assert!(connector.alter_offsets(&Props::new(), &[change(FieldMap::new())]).await.is_err());
    assert_eq!(connector.exactly_once_support(&Props::new()), ExactlyOnceSupport::Supported);
}
