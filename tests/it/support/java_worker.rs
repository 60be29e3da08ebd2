//! A cluster of one worker that is Kafka's own at one time and connect-node at another, with one and the same file of settings.

use std::process::Output;
use std::time::{Duration, Instant};

use super::kafka_lib;
use super::process::{Worker, binary, holds_within};

/// A JVM that scans for plug-ins on a busy machine may take this long.
const START_TIMEOUT: Duration = Duration::from_secs(180);
/// A small heap and a quick start matter more than throughput.
const JVM: [&str; 5] = [
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=info",
];
const MAIN_CLASS: &str = "org.apache.kafka.connect.cli.ConnectDistributed";
/// Whose complaints would say that Java cannot read what stands in the internal topics.
const STORAGE_CLASSES: [&str; 4] =
    ["KafkaConfigBackingStore", "KafkaStatusBackingStore", "KafkaBasedLog", "OffsetUtils"];

/// Who runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Java,
    ConnectNode,
}

/// The cluster. What it runs is killed when it is dropped.
pub struct EitherWorker {
    pub worker: Worker,
    /// Bytes of the log that earlier lives wrote.
    earlier: usize,
}

impl EitherWorker {
    /// Internal topics and a group of its own; nothing runs. `settings` win over the usual ones.
    pub fn new(bootstrap: &str, settings: &[(&str, &str)]) -> EitherWorker {
        // Scanning the class path for plug-ins takes most of a start.
        let settings =
            [&[("plugin.discovery", "service_load"), ("offset.flush.interval.ms", "500")], settings].concat();
        let mut worker = Worker::new(bootstrap, &settings);
        if settings.contains(&("exactly.once.source.support", "enabled")) {
            // connect-node refuses what it cannot do; Java does not look at this.
            worker.environment.push(("CONNECT_EXACTLY_ONCE_SOURCE_SUPPORT", "disabled"));
        }
        EitherWorker { worker, earlier: 0 }
    }

    /// Starts it and waits until it answers. Says how long that took.
    pub async fn start(&mut self, kind: Kind) -> Duration {
        self.launch(kind);
        let began = Instant::now();
        let worker = &self.worker;
        let healthy = async || worker.call("GET", "/health", None).await.is_ok_and(|reply| reply.status == 200);
        let started = holds_within(START_TIMEOUT, healthy).await;
        assert!(started, "{kind:?} did not start within {} s\n{}", START_TIMEOUT.as_secs(), worker.log_tail());
        println!("{kind:?} started in {:.1} s", began.elapsed().as_secs_f64());
        began.elapsed()
    }

    /// Starts it and waits for nothing.
    pub fn launch(&mut self, kind: Kind) {
        self.earlier = self.worker.log().len();
        let properties = self.worker.properties().display().to_string();
        let program = match kind {
            Kind::ConnectNode => vec![binary(), "distributed".into(), properties],
            Kind::Java => {
                let lib = kafka_lib::jars().unwrap_or_else(|error| panic!("no Java worker: {error}"));
                let class_path = format!("{}/*", lib.display());
                let jvm = JVM.map(str::to_owned);
                let rest = ["-cp".to_owned(), class_path, MAIN_CLASS.to_owned(), properties];
                [vec!["java".to_owned()], jvm.to_vec(), rest.to_vec()].concat()
            }
        };
        // Recorded connectors name their files relative to where the worker runs.
        let directory = self.worker.directory().display().to_string();
        self.worker.program = [vec!["env".to_owned(), "-C".to_owned(), directory], program].concat();
        self.worker.start();
    }

    /// Ends it by SIGTERM, and it has to end in an orderly way: connect-node with 0, a JVM with 128 + 15.
    pub async fn stop(&mut self, kind: Kind) {
        let status = self.worker.terminate().await;
        let expected = match kind {
            Kind::Java => 143,
            Kind::ConnectNode => 0,
        };
        assert_eq!(status.code(), Some(expected), "{kind:?}\n{}", self.worker.log_tail());
    }

    /// What the last life has logged.
    pub fn log(&self) -> String {
        self.worker.log()[self.earlier..].to_owned()
    }

    /// The lines of the last life in which Java's stores complain.
    pub fn storage_complaints(&self) -> Vec<String> {
        let complains = |line: &&str| {
            let of_a_store = STORAGE_CLASSES.iter().any(|class| line.contains(class));
            of_a_store && [" WARN ", " ERROR "].iter().any(|level| line.contains(level))
        };
        self.log().lines().filter(complains).map(str::to_owned).collect()
    }

    /// `connect-node leave --hand-back`.
    pub async fn hand_back(&self) -> Output {
        self.worker.command(&["leave", "--hand-back"]).await
    }
}
