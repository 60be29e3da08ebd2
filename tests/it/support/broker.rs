//! Real Kafka brokers on loopback: one KRaft node, or a [`Cluster`].

mod cluster;

use std::fs::{self, File};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{crash, kafka_lib, unique};

pub use cluster::Cluster;

/// Names a running broker that the tests take instead of starting one.
const BOOTSTRAP_VARIABLE: &str = "CONNECT_NODE_TEST_BOOTSTRAP";
/// A JVM on a busy machine may take this long.
const START_TIMEOUT: Duration = Duration::from_secs(120);
/// Another process may take a port between our choice and the broker's start.
const START_ATTEMPTS: usize = 3;
/// Any 16 bytes in URL-safe base64.
const CLUSTER_ID: &str = "Y29ubmVjdC1ub2RlLWl0cw";
/// A small heap and a quick start matter more than throughput.
const JVM: [&str; 5] = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
];
/// Runs the broker in the background and kills it when standard input says or ends, which it does however this process
/// ends. `stop` keeps the data; an end removes them.
const WATCHDOG: &str = r#"
directory=$1; shift
exec 3<&0
"$@" </dev/null 3<&- &
broker=$!
( read -r word <&3; kill -9 "$broker"; [ "$word" = stop ] || rm -rf "$directory" ) &
watcher=$!
wait "$broker"
status=$?
exec 3<&-
wait "$watcher"
exit "$status"
"#;

/// A broker. Dropped, it is killed and its data are removed.
pub struct Broker {
    bootstrap: String,
    node: Option<Node>,
}

/// What a broker has beside its open listener.
#[derive(Clone, Default)]
pub struct Security {
    /// Names of listeners, each with its protocol: SSL, SASL_PLAINTEXT, SASL_SSL.
    pub listeners: Vec<(&'static str, &'static str)>,
    /// Ports that some of them advertise in the place of their own: those of relays.
    pub advertised: Vec<(&'static str, u16)>,
    /// Settings of the broker, a line each.
    pub properties: Vec<String>,
    /// Users as `kafka-storage format --add-scram` takes them.
    pub scram: Vec<String>,
}

/// What a node is in its cluster.
#[derive(Clone, Copy)]
struct Place {
    id: u32,
    /// `broker`, `controller`, or both.
    roles: &'static str,
    /// The controller's id and port.
    controller: (u32, u16),
    /// Of the topics that brokers make for themselves, and of those that ask for no number.
    replicas: usize,
}

/// A node that this process started.
struct Node {
    lib: PathBuf,
    directory: PathBuf,
    /// Takes connections of clients; of a mere controller, those of brokers.
    port: u16,
    secure_ports: Vec<(&'static str, u16)>,
    running: Mutex<Option<Child>>,
}

/// The broker that all tests of this binary share; nobody stops it. Started by the first call.
pub async fn broker() -> &'static Broker {
    static SHARED: OnceLock<Result<Broker, String>> = OnceLock::new();
    let start = || {
        SHARED.get_or_init(|| match std::env::var(BOOTSTRAP_VARIABLE) {
            Ok(bootstrap) => Ok(Broker { bootstrap, node: None }),
            Err(_) => Broker::try_start(&Security::default()),
        })
    };
    match tokio::task::spawn_blocking(start).await.expect("starting a broker does not panic") {
        Ok(broker) => broker,
        Err(error) => panic!("no Kafka broker: {error}"),
    }
}

impl Broker {
    /// Starts a broker of its own, for a test that stops it.
    pub async fn start() -> Broker {
        Broker::start_with(Security::default()).await
    }

    /// Starts a broker of its own with further listeners.
    pub async fn start_with(security: Security) -> Broker {
        let start = move || Broker::try_start(&security);
        let started = tokio::task::spawn_blocking(start).await.expect("starting a broker does not panic");
        started.unwrap_or_else(|error| panic!("no Kafka broker: {error}"))
    }

    /// `host:port` of one of its further listeners.
    pub fn listener(&self, name: &str) -> String {
        format!("127.0.0.1:{}", self.listener_port(name))
    }

    /// Where one of its further listeners is, whatever it advertises.
    pub fn listener_port(&self, name: &str) -> u16 {
        let node = self.node.as_ref().expect("only a broker of its own has further listeners");
        node.secure_ports.iter().find(|(known, _)| *known == name).expect("it was asked for").1
    }

    /// `host:port`, the same after a restart.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    /// Kills the broker at once, as a lost machine would. Its data stay.
    pub fn stop(&self) {
        self.node.as_ref().expect("only a broker of its own can be stopped").stop();
    }

    /// Starts the broker again after `stop`, with its data and at its address.
    pub async fn restart(&self) {
        self.stop();
        let node = self.node.as_ref().expect("only a broker of its own can be restarted");
        tokio::task::block_in_place(|| node.run()).unwrap_or_else(|error| panic!("no restart: {error}"));
    }

    fn try_start(security: &Security) -> Result<Broker, String> {
        // From here on there are clients.
        crash::show_stacks();
        let lib = kafka_lib::jars()?;
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            let ports = free_ports(2 + security.listeners.len())?;
            let place = Place { id: 1, roles: "broker,controller", controller: (1, ports[1]), replicas: 1 };
            let names = security.listeners.iter().map(|(name, _)| *name);
            let secure_ports = names.zip(ports[2..].iter().copied()).collect();
            let node = Node::format(lib.clone(), place, ports[0], secure_ports, security)?;
            match node.run() {
                Ok(()) => {
                    let bootstrap = format!("127.0.0.1:{}", node.port);
                    return Ok(Broker { bootstrap, node: Some(node) });
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Gives a topic further partitions, by Kafka's own tool: nothing of connect-node ever does that.
pub async fn grow_topic(bootstrap: &str, topic: &str, partitions: i32) {
    let arguments = ["--alter", "--topic", topic, "--partitions", &partitions.to_string()];
    tool(bootstrap, "TopicCommand", &arguments).await;
}

/// Runs one of Kafka's own tools and returns what it prints.
pub async fn tool(bootstrap: &str, class: &str, arguments: &[&str]) -> String {
    let lib = kafka_lib::jars().unwrap_or_else(|error| panic!("{error}"));
    let output = tokio::process::Command::new("java")
        .args(java_arguments(&lib, &format!("org.apache.kafka.tools.{class}")))
        .args(["--bootstrap-server", bootstrap])
        .args(arguments)
        .output()
        .await
        .unwrap_or_else(|error| panic!("cannot run java: {error}"));
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{class} {arguments:?}: {out}{err}");
    out.into_owned()
}

fn java_arguments(lib: &Path, class: &str) -> Vec<String> {
    let class_path = format!("{}/*", lib.display());
    let jvm = JVM.map(str::to_owned);
    jvm.into_iter().chain(["-cp".into(), class_path, class.into()]).collect()
}

/// So many free ports.
fn free_ports(count: usize) -> Result<Vec<u16>, String> {
    let bind = |_| TcpListener::bind("127.0.0.1:0");
    let listeners: Result<Vec<_>, _> = (0..count).map(bind).collect();
    let port = |listener: &TcpListener| listener.local_addr().map(|address| address.port());
    let ports = listeners.and_then(|listeners| listeners.iter().map(port).collect());
    ports.map_err(|error| format!("no free port: {error}"))
}

/// A node, small, quick to start. The short session lets a killed broker come back under its id soon, and others lead soon.
fn server_properties(
    directory: &Path,
    place: Place,
    port: u16,
    secure_ports: &[(&str, u16)],
    security: &Security,
) -> String {
    let Place { id, roles, controller: (controller, controller_port), replicas } = place;
    let secure: String = secure_ports.iter().map(|(name, port)| format!(",{name}://127.0.0.1:{port}")).collect();
    let clients = format!("PLAINTEXT://127.0.0.1:{port}{secure}");
    let advertised = secure_ports.iter().map(|(name, port)| {
        let instead = security.advertised.iter().find(|(of, _)| of == name);
        format!(",{name}://127.0.0.1:{}", instead.map_or(*port, |(_, port)| *port))
    });
    let advertised = format!("advertised.listeners=PLAINTEXT://127.0.0.1:{port}{}\n", advertised.collect::<String>());
    let quorum = format!("CONTROLLER://127.0.0.1:{controller_port}");
    let (listeners, advertised) = match roles {
        "controller" => (quorum, String::new()),
        "broker" => (clients, advertised),
        _ => (format!("{clients},{quorum}"), advertised),
    };
    let protocols: String = security.listeners.iter().map(|(name, protocol)| format!(",{name}:{protocol}")).collect();
    let properties: String = security.properties.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "process.roles={roles}\n\
         node.id={id}\n\
         controller.quorum.voters={controller}@127.0.0.1:{controller_port}\n\
         listeners={listeners}\n\
         {advertised}\
         {properties}\
         controller.listener.names=CONTROLLER\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n\
         log.dirs={}\n\
         num.partitions=1\n\
         default.replication.factor={replicas}\n\
         min.insync.replicas=1\n\
         auto.create.topics.enable=true\n\
         auto.leader.rebalance.enable=false\n\
         offsets.topic.replication.factor={replicas}\n\
         offsets.topic.num.partitions=5\n\
         transaction.state.log.replication.factor={replicas}\n\
         transaction.state.log.min.isr=1\n\
         transaction.state.log.num.partitions=5\n\
         share.coordinator.state.topic.replication.factor={replicas}\n\
         share.coordinator.state.topic.min.isr=1\n\
         share.coordinator.state.topic.num.partitions=1\n\
         group.initial.rebalance.delay.ms=0\n\
         broker.session.timeout.ms=3000\n\
         broker.heartbeat.interval.ms=500\n\
         num.network.threads=2\n\
         num.io.threads=4\n\
         log.cleaner.dedupe.buffer.size=4194304\n",
        directory.join("data").display()
    )
}

impl Node {
    /// Chooses a directory and formats it.
    fn format(
        lib: PathBuf,
        place: Place,
        port: u16,
        secure_ports: Vec<(&'static str, u16)>,
        security: &Security,
    ) -> Result<Node, String> {
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique("kafka"));
        let properties = server_properties(&directory, place, port, &secure_ports, security);
        let written =
            fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("server.properties"), properties));
        written.map_err(|error| format!("cannot write to {}: {error}", directory.display()))?;
        let node = Node { lib, directory, port, secure_ports, running: Mutex::new(None) };
        let output = Command::new("java")
            .args(node.java_arguments("kafka.tools.StorageTool"))
            .args(["format", "-t", CLUSTER_ID, "-c"])
            .arg(node.directory.join("server.properties"))
            .args(security.scram.iter().flat_map(|user| ["--add-scram", user]))
            .output()
            .map_err(|error| format!("cannot run java: {error}. On Debian: apt install default-jre-headless"))?;
        if !output.status.success() {
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            return Err(format!("kafka.tools.StorageTool failed ({}):\n{out}{err}", output.status));
        }
        Ok(node)
    }

    fn java_arguments(&self, class: &str) -> Vec<String> {
        java_arguments(&self.lib, class)
    }

    /// Kills it at once.
    fn stop(&self) {
        if let Some(mut child) = self.running.lock().unwrap().take() {
            let mut input = child.stdin.take().expect("it is piped");
            input.write_all(b"stop\n").unwrap();
            child.wait().unwrap();
        }
    }

    /// Starts the node and waits until it takes connections.
    fn run(&self) -> Result<(), String> {
        let log = self.directory.join("broker.log");
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) = open()
            .and_then(|out| Ok((out, open()?)))
            .map_err(|error| format!("cannot write to {}: {error}", log.display()))?;
        let mut child = Command::new("sh")
            .args(["-c", WATCHDOG, "broker-watchdog"])
            .arg(&self.directory)
            .arg("java")
            .args(self.java_arguments("kafka.Kafka"))
            .arg(self.directory.join("server.properties"))
            .stdin(Stdio::piped())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        let deadline = Instant::now() + START_TIMEOUT;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let ended = child.try_wait().map_err(|error| format!("lost the broker: {error}"))?;
            if ended.is_some() || Instant::now() > deadline {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<_> = text.lines().rev().take(20).collect();
                let tail: Vec<_> = tail.into_iter().rev().collect();
                return Err(format!("the broker did not start ({ended:?}):\n{}", tail.join("\n")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        *self.running.lock().unwrap() = Some(child);
        Ok(())
    }
}
