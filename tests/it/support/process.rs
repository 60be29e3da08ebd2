//! Workers in processes of their own, to be killed.

use std::fs::{self, File};
use std::future::Future;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::unique;
use crate::scenarios::client::{Reply, call};

/// Names another executable to test, say a release build.
const BINARY_VARIABLE: &str = "CONNECT_NODE_BIN";
/// Names, for [`Worker::of_this_binary`], the file with the settings.
pub const PROPERTIES_VARIABLE: &str = "CONNECT_NODE_TEST_WORKER";
/// Names a directory to which the logs of the workers of a test that fails are copied.
const KEPT_LOGS_VARIABLE: &str = "CONNECT_NODE_TEST_KEPT_LOGS";
/// How long a worker may take for anything that a test waits for, unless it says otherwise.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition outside of this process is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(5);
/// Ports below those that the system gives to clients and to tests that ask for any: one that is free now stays so while a worker
/// is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// Bytes from the end of a worker's log that a failure shows.
const LOG_TAIL_BYTES: usize = 4000;

/// Becomes the program that it is given, and leaves somebody behind who kills it when standard input ends, which it does however
/// this process ends. The word `over` says that there is nothing to kill any more.
const LEASH: &str = r#"
exec 3<&0 </dev/null
( exec >/dev/null 2>&1; read -r word <&3; [ "$word" = over ] || kill -9 "$$" ) &
exec 3<&-
exec "$@"
"#;

/// The executable of connect-node.
pub fn binary() -> String {
    std::env::var(BINARY_VARIABLE).unwrap_or_else(|_| env!("CARGO_BIN_EXE_connect-node").to_owned())
}

/// A worker with its settings, alive or not. Killed when dropped.
pub struct Worker {
    directory: Directory,
    url: String,
    id: String,
    /// What runs with the settings.
    pub(super) program: Vec<String>,
    /// Variables of its environment.
    pub environment: Vec<(&'static str, &'static str)>,
    child: Option<Child>,
}

/// Removed when it is dropped, but for the log where a test fails and somebody wants to keep it.
struct Directory(TempDir);

impl Drop for Directory {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(kept) = std::env::var_os(KEPT_LOGS_VARIABLE)
        {
            let name = self.0.path().file_name().unwrap();
            fs::copy(self.0.path().join("worker.log"), Path::new(&kept).join(name)).unwrap();
        }
    }
}

impl Worker {
    /// The daemon with internal topics and a group of its own, not started. `settings` win over these.
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> Worker {
        let worker = Worker::with_program(bootstrap, settings, vec![binary(), "distributed".to_owned()]);
        let properties = worker.properties().display().to_string();
        Worker { program: [worker.program.clone(), vec![properties]].concat(), ..worker }
    }

    /// Another worker of the same group, with the same topics and a port of its own, not started.
    pub fn beside(&self, bootstrap: &str, settings: &[(&str, &str)]) -> Worker {
        let names = ["group.id", "config.storage.topic", "offset.storage.topic", "status.storage.topic"];
        let same = names.map(|name| (name, self.setting(name)));
        let same: Vec<_> = same.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Worker::new(bootstrap, &[&same, settings].concat())
    }

    /// The daemon in standalone mode, with an offset file of its own and no connectors; see [`Worker::with_connector`].
    pub fn standalone(bootstrap: &str, settings: &[(&str, &str)]) -> Worker {
        let mut worker = Worker::new(bootstrap, settings);
        worker.program[1] = "standalone".to_owned();
        let mut text = fs::read_to_string(worker.properties()).unwrap();
        text.push_str(&format!("offset.storage.file.filename={}\n", worker.offset_file().display()));
        fs::write(worker.properties(), text).unwrap();
        worker
    }

    /// Where a standalone worker keeps its offsets.
    pub fn offset_file(&self) -> PathBuf {
        self.directory.0.path().join("connect.offsets")
    }

    /// A connector on the command line: the name of the file below the directory of this worker, and its content.
    pub fn with_connector(&mut self, file: &str, content: &str) {
        let path = self.directory.0.path().join(file);
        fs::write(&path, content).unwrap();
        self.program.push(path.display().to_string());
    }

    /// Another program from the next start on, with the same file of settings and what follows it.
    pub fn become_program(&mut self, program: &[&str]) {
        let properties = self.properties().display().to_string();
        let arguments = self.program.iter().position(|argument| *argument == properties).expect("it has settings");
        let program = program.iter().map(|word| (*word).to_owned());
        self.program = program.chain(self.program.split_off(arguments)).collect();
    }

    /// This test binary, running `test`, which has to start a worker with the settings that [`PROPERTIES_VARIABLE`] names.
    pub fn of_this_binary(bootstrap: &str, settings: &[(&str, &str)], test: &str) -> Worker {
        let binary = std::env::current_exe().unwrap().display().to_string();
        let arguments = ["--exact", test, "--nocapture", "--test-threads=1"].map(str::to_owned);
        Worker::with_program(bootstrap, settings, [vec![binary], arguments.to_vec()].concat())
    }

    fn with_program(bootstrap: &str, settings: &[(&str, &str)], program: Vec<String>) -> Worker {
        let directory = Directory(tempfile::tempdir().unwrap());
        let (id, port) = (unique("it"), free_port());
        let mut lines = vec![
            format!("bootstrap.servers={bootstrap}"),
            format!("listeners=http://127.0.0.1:{port}"),
            format!("group.id={id}"),
            format!("config.storage.topic={id}-configs"),
            format!("offset.storage.topic={id}-offsets"),
            format!("status.storage.topic={id}-status"),
            format!("offset.storage.partitions={OFFSET_PARTITIONS}"),
            "config.storage.replication.factor=1".to_owned(),
            "offset.storage.replication.factor=1".to_owned(),
            "status.storage.replication.factor=1".to_owned(),
            "key.converter=org.apache.kafka.connect.storage.StringConverter".to_owned(),
            "value.converter=org.apache.kafka.connect.storage.StringConverter".to_owned(),
        ];
        // The last line of a name counts.
        lines.extend(settings.iter().map(|(name, value)| format!("{name}={value}")));
        fs::write(directory.0.path().join("worker.properties"), lines.join("\n") + "\n").unwrap();
        let advertised = settings.iter().rev().find(|(name, _)| *name == "rest.advertised.port");
        let id = format!("127.0.0.1:{}", advertised.map_or(port.to_string(), |(_, port)| (*port).to_owned()));
        let url = format!("http://127.0.0.1:{port}");
        Worker { directory, url, id, program, environment: Vec::new(), child: None }
    }

    /// A directory of its own for what its connectors read and write.
    pub fn directory(&self) -> &Path {
        self.directory.0.path()
    }

    /// The file with its settings.
    pub fn properties(&self) -> PathBuf {
        self.directory.0.path().join("worker.properties")
    }

    /// A setting as it stands in the file.
    pub fn setting(&self, name: &str) -> String {
        let text = fs::read_to_string(self.properties()).unwrap();
        let value = text.lines().rev().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("{name} is not set")).to_owned()
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        let port = self.url.rsplit(':').next().and_then(|port| port.parse().ok());
        port.expect("the URL was made with a port")
    }

    /// Its name in the group: the address that it advertises.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The number of its process.
    pub fn process(&self) -> u32 {
        self.child.as_ref().and_then(Child::id).expect("the worker runs")
    }

    /// Starts the process. What it logs is appended to what earlier lives logged.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "the worker runs already");
        let log = File::options().create(true).append(true).open(self.log_file()).unwrap();
        let child = Command::new("sh")
            .args(["-c", LEASH, "leash"])
            .args(&self.program)
            .env(PROPERTIES_VARIABLE, self.properties())
            .envs(self.environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
    }

    /// Kills the process at once, as `kill -9` does, and waits until it is gone.
    pub async fn kill(&mut self) {
        let child = self.child.as_mut().expect("the worker runs");
        child.start_kill().unwrap();
        let status = self.exit(PATIENCE).await;
        assert_eq!(status.code(), None, "it ended by itself before it was killed: {status}\n{}", self.log_tail());
    }

    /// Asks for an orderly end, as `kill` does, and waits for it.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.exit(PATIENCE).await
    }

    /// Sends a signal and does not wait.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args(["-s", name, &self.process().to_string()]).status().await.unwrap();
        assert!(sent.success());
    }

    /// Waits until the process ends by itself.
    pub async fn exit(&mut self, patience: Duration) -> ExitStatus {
        let mut child = self.child.take().expect("the worker runs");
        let input = child.stdin.take();
        let Ok(status) = tokio::time::timeout(patience, child.wait()).await else {
            panic!("the worker did not end within {} s\n{}", patience.as_secs(), self.log_tail());
        };
        if let Some(mut input) = input {
            use tokio::io::AsyncWriteExt;
            input.write_all(b"over\n").await.unwrap();
        }
        status.unwrap()
    }

    /// Everything that it and its earlier lives have logged.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.log_file()).unwrap_or_default()).into_owned()
    }

    /// Another command of connect-node with the same settings, run to its end.
    pub async fn command(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(binary());
        command.args(arguments).arg(self.properties()).envs(self.environment.iter().copied());
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        output.unwrap_or_else(|_| panic!("{arguments:?} did not end within {} s", PATIENCE.as_secs())).unwrap()
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let start = (log.len().saturating_sub(LOG_TAIL_BYTES)..log.len()).find(|&at| log.is_char_boundary(at));
        format!("--- the worker's log ends with:\n{}", &log[start.unwrap_or(0)..])
    }

    fn log_file(&self) -> PathBuf {
        self.directory.0.path().join("worker.log")
    }

    /// One request. An error says why there was no answer.
    pub async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Reply, String> {
        let json = [("Content-Type".to_owned(), "application/json".to_owned())];
        call(&self.url, method, path, &json, body.map(Value::to_string)).await
    }

    /// One GET that has to be answered.
    pub async fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None).await.unwrap_or_else(|error| panic!("{error}\n{}", self.log_tail()))
    }

    /// Waits until the worker says that it is healthy.
    pub async fn ready(&self) {
        let healthy = async || self.call("GET", "/health", None).await.is_ok_and(|reply| reply.status == 200);
        self.eventually("the worker is healthy", healthy).await;
    }

    /// Creates a connector or gives it another configuration.
    pub async fn put(&self, name: &str, config: &[(&str, &str)]) {
        let config: serde_json::Map<_, _> =
            config.iter().map(|(name, value)| ((*name).to_owned(), Value::from(*value))).collect();
        let reply = self.call("PUT", &format!("/connectors/{name}/config"), Some(&config.into())).await;
        let reply = reply.unwrap_or_else(|error| panic!("{error}\n{}", self.log_tail()));
        assert!(matches!(reply.status, 200 | 201), "{name} was not created: {reply:?}\n{}", self.log_tail());
    }

    /// The states of a connector and its tasks, connector first.
    pub async fn states(&self, name: &str) -> Vec<String> {
        let Ok(reply) = self.call("GET", &format!("/connectors/{name}/status"), None).await else { return Vec::new() };
        let body = reply.body.json();
        let tasks = body["tasks"].as_array().into_iter().flatten();
        let states = std::iter::once(&body["connector"]).chain(tasks);
        states.map(|unit| unit["state"].as_str().unwrap_or("none").to_owned()).collect()
    }

    /// Waits for something that this worker is to bring about; fails with the end of its log.
    pub async fn eventually(&self, what: &str, condition: impl AsyncFnMut() -> bool) {
        if !holds_within(PATIENCE, condition).await {
            panic!("not within {} s: {what}\n{}", PATIENCE.as_secs(), self.log_tail());
        }
    }
}

/// Partitions of the offset topic.
pub const OFFSET_PARTITIONS: i32 = 5;

/// Waits for a condition that nobody announces, because it comes about in another process.
pub async fn holds_within(patience: Duration, mut condition: impl AsyncFnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !condition().await {
        if Instant::now() >= deadline {
            return false;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    true
}

/// Lets time pass for its own sake: a process is to be killed at a moment that nothing marks.
pub fn random_moment(time: Duration) -> impl Future<Output = ()> {
    tokio::time::sleep(time)
}

/// A port that nobody listens on, and that nobody gets by chance.
pub fn free_port() -> u16 {
    let free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    std::iter::repeat_with(|| fastrand::u16(PORTS)).take(1000).find(free).expect("one of these ports is free")
}
