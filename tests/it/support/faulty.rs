//! Plug-ins that fail on demand, and an upstream that forgets what was committed.
//!
//! Every plug-in takes the settings `fault.*`: `fault.phase` names the callback (`poll`, `put`, `connector.start` ...),
//! `fault.kind` is `panic`, `error`, `retriable`, `block` (for ever) or `slow` (`fault.slow.ms`, 100 unless set),
//! `fault.after` lets so many calls pass before, `fault.times` ends it after so many faults, `fault.task` restricts it to
//! one task; `fault.also` is a second one, always there, as `phase=kind`. Calls are counted over restarts, by the name of the connector (`fault.key` where there is no `name`) and the
//! phase, so that `fault.times=1` means once and not once for each life.
//!
//! Classes with `Blocking` in their names say `blocking()` and park their thread; the others pend.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::thread;
use std::time::{Duration, Instant};

use connect_api::converter::RawHeader;
use connect_api::sink::Offsets;
use connect_api::{
    Bytes, ConfigDef, ConfigValue, ConnectError, Connector, ConnectorContext, Converter, FieldMap, Header, Props,
    Record, RecordMetadata, Result, Schema, SchemaAndValue, SinkConnector, SinkRecord, SinkTask, SinkTaskContext,
    SourceConnector, SourcePartition, SourceRecord, SourceTask, SourceTaskContext, TopicPartition, Transformation,
    Value, async_trait,
};
use connect_node::plugins::{Plugin, PluginKind};

pub const SOURCE: &str = "test.FaultySourceConnector";
pub const BLOCKING_SOURCE: &str = "test.FaultyBlockingSourceConnector";
pub const SINK: &str = "test.FaultySinkConnector";
pub const BLOCKING_SINK: &str = "test.FaultyBlockingSinkConnector";
pub const TRANSFORMATION: &str = "test.FaultyTransformation";
pub const CONVERTER: &str = "test.FaultyConverter";

/// All plug-ins of this file, to be added to those that connect-node brings.
pub fn plugins() -> Vec<Plugin> {
    let plugin = |class, task_class, kind| Plugin { class, task_class, version: "1.0-test", kind };
    vec![
        plugin(
            SOURCE,
            Some("test.FaultySourceTask"),
            PluginKind::Source(
                || Box::new(FaultyConnector::<false>::default()),
                || Box::new(FaultySourceTask::<false>::default()),
            ),
        ),
        plugin(
            BLOCKING_SOURCE,
            Some("test.FaultyBlockingSourceTask"),
            PluginKind::Source(
                || Box::new(FaultyConnector::<true>::default()),
                || Box::new(FaultySourceTask::<true>::default()),
            ),
        ),
        plugin(
            SINK,
            Some("test.FaultySinkTask"),
            PluginKind::Sink(
                || Box::new(FaultyConnector::<false>::default()),
                || Box::new(FaultySinkTask::<false>::default()),
            ),
        ),
        plugin(
            BLOCKING_SINK,
            Some("test.FaultyBlockingSinkTask"),
            PluginKind::Sink(
                || Box::new(FaultyConnector::<true>::default()),
                || Box::new(FaultySinkTask::<true>::default()),
            ),
        ),
        plugin(TRANSFORMATION, None, PluginKind::Transformation(|| Box::new(FaultyTransformation::default()))),
        plugin(CONVERTER, None, PluginKind::Converter(|| Box::new(FaultyConverter::default()))),
    ]
}

/// Calls and faults so far, by connector and phase.
static COUNTS: LazyLock<Mutex<HashMap<String, Counts>>> = LazyLock::new(Mutex::default);
/// How far an upstream has forgotten, by connector and task.
static UPSTREAMS: LazyLock<Mutex<HashMap<String, i64>>> = LazyLock::new(Mutex::default);
/// What sinks were given, by connector.
static SUNK: LazyLock<Mutex<HashMap<String, Vec<Sunk>>>> = LazyLock::new(Mutex::default);

/// A panic on purpose must not spoil the next test: all changes under these locks are single steps.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    calls: u64,
    faults: u64,
}

/// How often a phase of a connector was entered so far, over all of its lives.
pub fn calls(name: &str, phase: &str) -> u64 {
    lock(&COUNTS).get(&format!("{name}/{phase}")).map_or(0, |counts| counts.calls)
}

/// One record that a sink was given by `put`.
#[derive(Debug, Clone, PartialEq)]
pub struct Sunk {
    pub partition: TopicPartition,
    pub offset: i64,
    pub value: Value,
}

/// What the tasks of a sink connector were given so far, in order of arrival.
pub fn sunk(name: &str) -> Vec<Sunk> {
    lock(&SUNK).get(name).cloned().unwrap_or_default()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Panic,
    Error,
    Retriable,
    Block,
    Slow,
}

/// The settings `fault.*` of one plug-in.
#[derive(Debug, Clone, Default)]
struct Fault {
    key: String,
    fault: Option<(String, Kind)>,
    also: Option<(String, Kind)>,
    after: u64,
    times: u64,
    slow: Duration,
}

impl Fault {
    fn from_props(props: &Props) -> Result<Fault> {
        let key = props.get("name").or(props.get("fault.key")).cloned().unwrap_or_else(|| "faulty".to_owned());
        let kind_of = |text: &str| match text {
            "panic" => Ok(Kind::Panic),
            "error" => Ok(Kind::Error),
            "retriable" => Ok(Kind::Retriable),
            "block" => Ok(Kind::Block),
            "slow" => Ok(Kind::Slow),
            other => Err(ConnectError::config(format!("'{other}' is no kind of fault"))),
        };
        let kind = kind_of(&text(props, "fault.kind", "error"))?;
        let also = props.get("fault.also").and_then(|text| text.split_once('='));
        let also = also.map(|(phase, kind)| Ok::<_, ConnectError>((phase.to_owned(), kind_of(kind)?))).transpose()?;
        let elsewhere = props.get("fault.task").is_some_and(|task| props.get("task.id").is_some_and(|id| id != task));
        let phase = props.get("fault.phase").filter(|_| !elsewhere);
        Ok(Fault {
            key,
            fault: phase.map(|phase| (phase.clone(), kind)),
            also,
            after: number(props, "fault.after", 0)?,
            times: number(props, "fault.times", u64::MAX)?,
            slow: Duration::from_millis(number(props, "fault.slow.ms", 100)?),
        })
    }

    /// Counts a call and says what goes wrong in it, and which fault of its phase that is, from 1.
    fn next(&self, phase: &str) -> Option<(Kind, u64)> {
        let mut counts = lock(&COUNTS);
        let counts = counts.entry(format!("{}/{phase}", self.key)).or_default();
        counts.calls += 1;
        if let Some((_, kind)) = self.also.as_ref().filter(|(faulty, _)| faulty == phase) {
            counts.faults += 1;
            return Some((*kind, counts.faults));
        }
        let kind = self.fault.as_ref().filter(|(faulty, _)| faulty == phase)?.1;
        if counts.calls <= self.after || counts.faults >= self.times {
            return None;
        }
        counts.faults += 1;
        Some((kind, counts.faults))
    }

    fn fail(&self, phase: &str, kind: Kind, number: u64) -> Result<()> {
        match kind {
            Kind::Panic => panic!("{} panics in {phase} on purpose (fault {number})", self.key),
            Kind::Retriable => Err(ConnectError::retriable(format!("{} fails in {phase} for a while", self.key))),
            _ => Err(ConnectError::fatal(format!("{} fails in {phase} on purpose (fault {number})", self.key))),
        }
    }

    /// Enters a callback that may not wait.
    fn enter_now(&self, phase: &str) -> Result<()> {
        match self.next(phase) {
            None => Ok(()),
            Some((Kind::Slow, _)) => {
                thread::sleep(self.slow);
                Ok(())
            }
            Some((Kind::Block, _)) => block_thread(),
            Some((kind, number)) => self.fail(phase, kind, number),
        }
    }

    /// Enters a callback that may wait.
    async fn enter<const BLOCKING: bool>(&self, phase: &str) -> Result<()> {
        if BLOCKING {
            return self.enter_now(phase);
        }
        match self.next(phase) {
            None => Ok(()),
            Some((Kind::Slow, _)) => {
                Delay::new(self.slow).await;
                Ok(())
            }
            Some((Kind::Block, _)) => std::future::pending().await,
            Some((kind, number)) => self.fail(phase, kind, number),
        }
    }
}

fn block_thread() -> ! {
    loop {
        thread::park();
    }
}

/// Waits without a runtime: a thread of its own wakes it.
struct Delay {
    until: Instant,
}

impl Delay {
    fn new(time: Duration) -> Self {
        Delay { until: Instant::now() + time }
    }
}

impl Future for Delay {
    type Output = ();

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let rest = self.until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        thread::spawn(move || {
            thread::sleep(rest);
            waker.wake();
        });
        Poll::Pending
    }
}

fn text(props: &Props, name: &str, default: &str) -> String {
    props.get(name).map_or(default, |text| text.trim()).to_owned()
}

fn number<T: std::str::FromStr>(props: &Props, name: &str, default: T) -> Result<T> {
    match props.get(name) {
        None => Ok(default),
        Some(text) => text.trim().parse().map_err(|_| ConnectError::config(format!("{name} is '{text}'"))),
    }
}

/// A source or sink connector. Its tasks get its own settings and `task.id`; there are `tasks` of them, or as many as
/// are allowed. Phases: `connector.validate` (panic, block and slow only), `connector.start`, `connector.task_configs`,
/// `connector.stop`.
#[derive(Default)]
pub struct FaultyConnector<const BLOCKING: bool> {
    props: Props,
    fault: Fault,
}

#[async_trait]
impl<const BLOCKING: bool> Connector for FaultyConnector<BLOCKING> {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn validate(&self, props: &Props) -> Vec<ConfigValue> {
        // Wrong settings of a fault are errors of `start`.
        if let Ok(fault) = Fault::from_props(props) {
            drop(fault.enter_now("connector.validate"));
        }
        self.config().validate(props)
    }

    fn blocking(&self) -> bool {
        BLOCKING
    }

    async fn start(&mut self, _context: ConnectorContext, props: Props) -> Result<()> {
        self.fault = Fault::from_props(&props)?;
        self.props = props;
        self.fault.enter::<BLOCKING>("connector.start").await
    }

    async fn task_configs(&mut self, tasks_max: usize) -> Result<Vec<Props>> {
        self.fault.enter::<BLOCKING>("connector.task_configs").await?;
        let tasks = number(&self.props, "tasks", tasks_max)?.min(tasks_max);
        let with_id = |task: usize| {
            let mut props = self.props.clone();
            props.insert("task.id".to_owned(), task.to_string());
            props
        };
        Ok((0..tasks).map(with_id).collect())
    }

    async fn stop(&mut self) -> Result<()> {
        self.fault.enter::<BLOCKING>("connector.stop").await
    }
}

impl<const BLOCKING: bool> SourceConnector for FaultyConnector<BLOCKING> {}
impl<const BLOCKING: bool> SinkConnector for FaultyConnector<BLOCKING> {}

/// Numbered records of one task; those before the committed one are gone for ever.
#[derive(Default)]
struct Upstream {
    key: String,
    /// Where `upstream.dir` is set, the state survives the process.
    file: Option<PathBuf>,
}

impl Upstream {
    fn new(props: &Props, key: String) -> Upstream {
        let file = props.get("upstream.dir").map(|dir| PathBuf::from(dir).join(key.replace('/', "-")));
        Upstream { key, file }
    }

    /// The first record that can still be read.
    fn first(&self) -> Result<i64> {
        let Some(file) = &self.file else { return Ok(lock(&UPSTREAMS).get(&self.key).copied().unwrap_or(0)) };
        match std::fs::read_to_string(file) {
            Ok(text) => {
                text.parse().map_err(|_| ConnectError::fatal(format!("'{text}' is no position of an upstream")))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(ConnectError::fatal("cannot read the position of an upstream").caused_by(error)),
        }
    }

    /// Forgets all records before this one.
    fn prune(&self, first: i64) -> Result<()> {
        let first = first.max(self.first()?);
        let Some(file) = &self.file else {
            lock(&UPSTREAMS).insert(self.key.clone(), first);
            return Ok(());
        };
        // A killed process leaves the old or the new position, never half of one.
        let beside = file.with_extension("new");
        std::fs::write(&beside, first.to_string())
            .and_then(|()| std::fs::rename(&beside, file))
            .map_err(|error| ConnectError::fatal("cannot write the position of an upstream").caused_by(error))
    }
}

/// Emits `{task, seq}` to `topic` (`faulty`), `source.batch` (10) records at a time, `source.total` in all, at most
/// `source.rate` a second. Source partition `{task}`, source offset `{seq}` = the next record. At `commit` the upstream
/// forgets what `commit_record` has seen. Phases: `start`, `poll`, `commit`, `commit_record`, `stop`.
#[derive(Default)]
pub struct FaultySourceTask<const BLOCKING: bool> {
    fault: Fault,
    context: Option<SourceTaskContext>,
    upstream: Upstream,
    topic: String,
    task: i32,
    partition: SourcePartition,
    next: i64,
    total: i64,
    batch: i64,
    /// Records a second, and when and where it began.
    rate: Option<(f64, Instant, i64)>,
    committed: i64,
}

#[async_trait]
impl<const BLOCKING: bool> SourceTask for FaultySourceTask<BLOCKING> {
    fn blocking(&self) -> bool {
        BLOCKING
    }

    fn wants_commit_record(&self) -> bool {
        true
    }

    async fn initialize(&mut self, context: SourceTaskContext) -> Result<()> {
        self.context = Some(context);
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        self.fault = Fault::from_props(&props)?;
        self.fault.enter::<BLOCKING>("start").await?;
        self.task = number(&props, "task.id", 0)?;
        self.topic = text(&props, "topic", "faulty");
        self.total = number(&props, "source.total", i64::MAX)?;
        self.batch = number(&props, "source.batch", 10)?;
        self.partition = Arc::new(FieldMap::new().with("task", self.task));
        self.upstream = Upstream::new(&props, format!("{}/{}", self.fault.key, self.task));
        let context = self.context.as_ref().ok_or_else(|| ConnectError::fatal("start came before initialize"))?;
        let offset = context.offset_storage_reader().offset(&self.partition).await?;
        let wanted = offset.and_then(|offset| offset.get("seq").and_then(Value::as_i64)).unwrap_or(0);
        // What was forgotten cannot be read again: a runtime that committed too early shows a gap at the sink.
        self.next = wanted.max(self.upstream.first()?);
        self.committed = self.next;
        if let Some(rate) = props.get("source.rate") {
            let rate: f64 = rate.parse().map_err(|_| ConnectError::config(format!("source.rate is '{rate}'")))?;
            self.rate = Some((rate, Instant::now(), self.next));
        }
        Ok(())
    }

    async fn poll(&mut self) -> Result<Vec<SourceRecord>> {
        self.fault.enter::<BLOCKING>("poll").await?;
        let due = match self.rate {
            Some((rate, since, first)) => first + (since.elapsed().as_secs_f64() * rate) as i64,
            None => i64::MAX,
        };
        let end = self.next.saturating_add(self.batch).min(self.total).min(due).max(self.next);
        let records = (self.next..end).map(|seq| self.record(seq)).collect();
        self.next = end;
        Ok(records)
    }

    async fn commit(&mut self) -> Result<()> {
        self.fault.enter::<BLOCKING>("commit").await?;
        self.upstream.prune(self.committed)
    }

    async fn commit_record(&mut self, record: &SourceRecord, _metadata: Option<RecordMetadata>) -> Result<()> {
        self.fault.enter::<BLOCKING>("commit_record").await?;
        let seq = record.source_offset.get("seq").and_then(Value::as_i64).unwrap_or(0);
        self.committed = self.committed.max(seq);
        Ok(())
    }

    async fn stop(&mut self) -> Result<()> {
        self.fault.enter::<BLOCKING>("stop").await
    }
}

impl<const BLOCKING: bool> FaultySourceTask<BLOCKING> {
    fn record(&self, seq: i64) -> SourceRecord {
        let value = vec![(Value::text("task"), Value::Int32(self.task)), (Value::text("seq"), Value::Int64(seq))];
        SourceRecord {
            source_partition: self.partition.clone(),
            source_offset: Arc::new(FieldMap::new().with("seq", seq + 1)),
            record: Record::new(self.topic.as_str(), SchemaAndValue::new(None, value)),
        }
    }
}

/// Records what it is given; see [`sunk`]. With `sink.dir` the values are also appended, a line each, to the file
/// NAME-TASK there, which survives a killed process. Phases: `start`, `open`, `put`, `flush`, `pre_commit`,
/// `close`, `stop`; a `put` that fails has recorded nothing.
#[derive(Default)]
pub struct FaultySinkTask<const BLOCKING: bool> {
    fault: Fault,
    file: Option<PathBuf>,
}

#[async_trait]
impl<const BLOCKING: bool> SinkTask for FaultySinkTask<BLOCKING> {
    fn blocking(&self) -> bool {
        BLOCKING
    }

    async fn initialize(&mut self, _context: SinkTaskContext) -> Result<()> {
        Ok(())
    }

    async fn start(&mut self, props: Props) -> Result<()> {
        self.fault = Fault::from_props(&props)?;
        let task = text(&props, "task.id", "0");
        self.file = props.get("sink.dir").map(|dir| PathBuf::from(dir).join(format!("{}-{task}", self.fault.key)));
        self.fault.enter::<BLOCKING>("start").await
    }

    async fn open(&mut self, _partitions: &[TopicPartition]) -> Result<()> {
        self.fault.enter::<BLOCKING>("open").await
    }

    async fn put(&mut self, records: &[SinkRecord]) -> Result<()> {
        self.fault.enter::<BLOCKING>("put").await?;
        if let Some(file) = &self.file {
            let lines: String = records.iter().map(|record| format!("{}\n", line(&record.value.value))).collect();
            append(file, &lines)
                .map_err(|error| ConnectError::fatal("cannot append to the file of a sink").caused_by(error))?;
        }
        let sunk = records.iter().map(|record| Sunk {
            partition: record.original.clone(),
            offset: record.original_offset,
            value: record.value.value.clone(),
        });
        lock(&SUNK).entry(self.fault.key.clone()).or_default().extend(sunk);
        Ok(())
    }

    async fn flush(&mut self, _offsets: &Offsets) -> Result<()> {
        self.fault.enter::<BLOCKING>("flush").await
    }

    async fn pre_commit(&mut self, offsets: &Offsets) -> Result<Offsets> {
        self.fault.enter::<BLOCKING>("pre_commit").await?;
        self.flush(offsets).await?;
        Ok(offsets.clone())
    }

    async fn close(&mut self, _partitions: &[TopicPartition]) -> Result<()> {
        self.fault.enter::<BLOCKING>("close").await
    }

    async fn stop(&mut self) -> Result<()> {
        self.fault.enter::<BLOCKING>("stop").await
    }
}

fn append(file: &PathBuf, lines: &str) -> std::io::Result<()> {
    use std::io::Write;
    std::fs::OpenOptions::new().create(true).append(true).open(file)?.write_all(lines.as_bytes())
}

/// A value on one line: texts as they are, maps as `name=value` with blanks between, in the order of the names.
fn line(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::Map(entries) => {
            let sorted: BTreeMap<String, String> =
                entries.iter().map(|(name, value)| (line(name), line(value))).collect();
            let fields: Vec<String> = sorted.iter().map(|(name, value)| format!("{name}={value}")).collect();
            fields.join(" ")
        }
        other => other.as_i64().map_or_else(|| format!("{other:?}"), |number| number.to_string()),
    }
}

/// Hands records on. Phases: `configure`, `apply`.
#[derive(Default)]
pub struct FaultyTransformation {
    fault: Fault,
}

impl Transformation for FaultyTransformation {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, props: &Props) -> Result<()> {
        self.fault = Fault::from_props(props)?;
        self.fault.enter_now("configure")
    }

    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        self.fault.enter_now("apply")?;
        Ok(Some(record))
    }
}

/// Writes the line of a value and reads it as text. Phases: `configure`, `from_connect_data`, `to_connect_data`.
#[derive(Default)]
pub struct FaultyConverter {
    fault: Fault,
}

impl Converter for FaultyConverter {
    fn config(&self) -> ConfigDef {
        ConfigDef::new()
    }

    fn configure(&mut self, props: &Props, _is_key: bool) -> Result<()> {
        self.fault = Fault::from_props(props)?;
        self.fault.enter_now("configure")
    }

    fn from_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[Header],
        _schema: Option<&Schema>,
        value: &Value,
    ) -> Result<Option<Bytes>> {
        self.fault.enter_now("from_connect_data")?;
        Ok((!value.is_null()).then(|| line(value).into()))
    }

    fn to_connect_data(
        &mut self,
        _topic: &str,
        _headers: &[RawHeader],
        bytes: Option<&Bytes>,
    ) -> Result<SchemaAndValue> {
        self.fault.enter_now("to_connect_data")?;
        let text = bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        Ok(SchemaAndValue { schema: None, value: text.into() })
    }
}

#[cfg(test)]
mod tests {
    use connect_api::{OffsetStorageReader, SourceOffset};

    use super::*;

    fn props(settings: &[(&str, &str)]) -> Props {
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// A store in which every partition stands at one position.
    struct At(Option<i64>);

    #[async_trait]
    impl OffsetStorageReader for At {
        async fn offsets(&self, partitions: &[SourcePartition]) -> Result<Vec<Option<SourceOffset>>> {
            let offset = self.0.map(|seq| Arc::new(FieldMap::new().with("seq", seq)));
            Ok(vec![offset; partitions.len()])
        }
    }

    async fn started(settings: &[(&str, &str)], at: Option<i64>) -> Result<FaultySourceTask<false>> {
        let mut task = FaultySourceTask::<false>::default();
        task.initialize(SourceTaskContext::new(Arc::new(At(at)))).await?;
        task.start(props(settings)).await?;
        Ok(task)
    }

    fn sequences(records: &[SourceRecord]) -> Vec<String> {
        records.iter().map(|record| line(&record.value.value)).collect()
    }

    #[tokio::test]
    async fn the_upstream_forgets_what_was_committed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().to_str().unwrap();
        for settings in [
            &[("name", "forgets"), ("source.batch", "2"), ("source.total", "3")][..],
            &[("name", "forgets2"), ("source.batch", "2"), ("source.total", "3"), ("upstream.dir", directory)],
        ] {
            let mut task = started(settings, None).await.unwrap();
            let records = task.poll().await.unwrap();
            assert_eq!(sequences(&records), ["seq=0 task=0", "seq=1 task=0"]);
            task.commit_record(&records[0], None).await.unwrap();
            let mut again = started(settings, None).await.unwrap();
            assert_eq!(sequences(&again.poll().await.unwrap()), ["seq=0 task=0", "seq=1 task=0"]);
            task.commit().await.unwrap();
            let mut again = started(settings, None).await.unwrap();
            assert_eq!(sequences(&again.poll().await.unwrap()), ["seq=1 task=0", "seq=2 task=0"]);
            assert!(again.poll().await.unwrap().is_empty());
            let mut further = started(settings, Some(2)).await.unwrap();
            assert_eq!(sequences(&further.poll().await.unwrap()), ["seq=2 task=0"]);
        }
    }

    #[tokio::test]
    async fn faults_come_when_they_are_asked_for_over_all_lives() {
        let settings = &[
            ("name", "faults"),
            ("fault.phase", "poll"),
            ("fault.kind", "retriable"),
            ("fault.after", "1"),
            ("fault.times", "2"),
        ];
        let mut task = started(settings, None).await.unwrap();
        assert!(task.poll().await.is_ok());
        assert!(task.poll().await.unwrap_err().is_retriable());
        let mut task = started(settings, None).await.unwrap();
        assert!(task.poll().await.unwrap_err().is_retriable());
        assert!(task.poll().await.is_ok());
        assert_eq!(calls("faults", "poll"), 4);
        assert_eq!(calls("faults", "start"), 2);
    }

    #[tokio::test]
    async fn faults_can_be_restricted_to_a_task() {
        let at = |task| {
            let settings = props(&[("name", "one"), ("fault.phase", "start"), ("fault.task", "1"), ("task.id", task)]);
            async move { FaultySinkTask::<false>::default().start(settings).await }
        };
        assert!(at("0").await.is_ok());
        assert!(at("1").await.is_err());
    }

    #[tokio::test]
    async fn a_slow_call_ends_and_a_blocked_one_does_not() {
        let slow = &[("name", "slow"), ("fault.phase", "poll"), ("fault.kind", "slow"), ("fault.slow.ms", "20")];
        let mut task = started(slow, None).await.unwrap();
        let begin = Instant::now();
        assert_eq!(task.poll().await.unwrap().len(), 10);
        assert!(begin.elapsed() >= Duration::from_millis(20));
        let block = &[("name", "block"), ("fault.phase", "poll"), ("fault.kind", "block")];
        let mut task = started(block, None).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(20), task.poll()).await.is_err());
    }

    #[tokio::test]
    async fn the_sink_records_what_it_was_given() {
        let directory = tempfile::tempdir().unwrap();
        let mut task = FaultySinkTask::<true>::default();
        let settings = [("name", "sinks"), ("sink.dir", directory.path().to_str().unwrap())];
        task.initialize(SinkTaskContext::default()).await.unwrap();
        task.start(props(&settings)).await.unwrap();
        let original = TopicPartition::new("t", 3);
        let record = SinkRecord {
            record: Record::new("renamed", SchemaAndValue::new(None, "x")),
            timestamp_type: connect_api::TimestampType::CreateTime,
            original: original.clone(),
            original_offset: 7,
        };
        task.put(&[record.clone(), record]).await.unwrap();
        let one = Sunk { partition: original, offset: 7, value: "x".into() };
        assert_eq!(sunk("sinks"), [one.clone(), one]);
        assert_eq!(std::fs::read_to_string(directory.path().join("sinks-0")).unwrap(), "x\nx\n");
    }

    #[test]
    fn converters_and_transformations_panic_on_demand() {
        let settings = props(&[("fault.key", "c"), ("fault.phase", "to_connect_data"), ("fault.kind", "panic")]);
        let mut converter = FaultyConverter::default();
        converter.configure(&settings, false).unwrap();
        assert!(converter.from_connect_data("t", &[], None, &"x".into()).is_ok());
        let call = std::panic::AssertUnwindSafe(|| converter.to_connect_data("t", &[], None));
        assert!(std::panic::catch_unwind(call).is_err());
        let mut transformation = FaultyTransformation::default();
        transformation.configure(&props(&[("fault.key", "x"), ("fault.phase", "apply")])).unwrap();
        assert!(transformation.apply(Record::new("t", SchemaAndValue::NULL)).is_err());
    }

    #[test]
    fn all_classes_are_listed() {
        let classes: Vec<&str> = plugins().iter().map(|plugin| plugin.class).collect();
        assert_eq!(classes, [SOURCE, BLOCKING_SOURCE, SINK, BLOCKING_SINK, TRANSFORMATION, CONVERTER]);
    }
}
