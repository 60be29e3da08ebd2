//! A cluster in which leaders can move: two brokers, and a controller apart that nobody stops.

use std::thread;
use std::time::Instant;

use super::{Node, Place, START_ATTEMPTS, START_TIMEOUT, Security, free_ports, kafka_lib, tool};

/// The ids of the brokers.
pub const BROKERS: [u32; 2] = [2, 3];
const CONTROLLER: u32 = 1;

/// The cluster. Dropped, it is killed and its data are removed.
pub struct Cluster {
    bootstrap: String,
    brokers: [Node; 2],
    _controller: Node,
}

/// What the controller says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partition {
    pub topic: String,
    /// `None`: nobody leads it.
    pub leader: Option<u32>,
    pub in_sync: Vec<u32>,
}

impl Cluster {
    pub async fn start() -> Cluster {
        let started = tokio::task::spawn_blocking(Cluster::try_start).await.expect("starting does not panic");
        started.unwrap_or_else(|error| panic!("no Kafka cluster: {error}"))
    }

    fn try_start() -> Result<Cluster, String> {
        let lib = kafka_lib::jars()?;
        let mut last = String::new();
        for _ in 0..START_ATTEMPTS {
            let ports = free_ports(3)?;
            let place = |id, roles| Place { id, roles, controller: (CONTROLLER, ports[0]), replicas: BROKERS.len() };
            let start = |place, port| {
                let node = Node::format(lib.clone(), place, port, Vec::new(), &Security::default())?;
                node.run().map(|()| node)
            };
            let start = &start;
            let started: [Result<Node, String>; 3] = thread::scope(|scope| {
                let nodes = [
                    (place(CONTROLLER, "controller"), ports[0]),
                    (place(BROKERS[0], "broker"), ports[1]),
                    (place(BROKERS[1], "broker"), ports[2]),
                ];
                let threads = nodes.map(|(place, port)| scope.spawn(move || start(place, port)));
                threads.map(|thread| thread.join().expect("starting a node does not panic"))
            });
            match started {
                [Ok(controller), Ok(one), Ok(two)] => {
                    let bootstrap = format!("127.0.0.1:{},127.0.0.1:{}", one.port, two.port);
                    return Ok(Cluster { bootstrap, brokers: [one, two], _controller: controller });
                }
                nodes => last = nodes.into_iter().filter_map(Result::err).collect(),
            }
        }
        Err(last)
    }

    /// Both brokers.
    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn broker(&self, id: u32) -> &Node {
        let place = BROKERS.iter().position(|known| *known == id).expect("it is one of the brokers");
        &self.brokers[place]
    }

    /// Kills a broker at once, as a lost machine would. Its data stay.
    pub fn stop(&self, id: u32) {
        tokio::task::block_in_place(|| self.broker(id).stop());
    }

    /// Starts a broker again after `stop`.
    pub fn restart(&self, id: u32) {
        tokio::task::block_in_place(|| self.broker(id).run()).unwrap_or_else(|error| panic!("no restart: {error}"));
    }

    /// All partitions of all topics, by Kafka's own tool.
    pub async fn partitions(&self) -> Vec<Partition> {
        tool(&self.bootstrap, "TopicCommand", &["--describe"]).await.lines().filter_map(partition).collect()
    }

    /// Waits until both brokers have everything, and says who leads what.
    pub async fn in_sync(&self) -> Vec<Partition> {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let partitions = self.partitions().await;
            assert!(Instant::now() < deadline, "the brokers are not in sync: {partitions:?}");
            if partitions.iter().all(|partition| partition.leader.is_some() && partition.in_sync.len() == BROKERS.len())
            {
                return partitions;
            }
        }
    }
}

/// A line of the tool; those of whole topics name no leader.
fn partition(line: &str) -> Option<Partition> {
    let field = |name: &str| line.split('\t').find_map(|field| field.trim().strip_prefix(name)).map(str::trim);
    let leader = field("Leader:")?;
    let in_sync = field("Isr:").unwrap_or_default().split(',').filter_map(|id| id.parse().ok());
    let topic = field("Topic:")?.to_owned();
    Some(Partition { topic, leader: leader.parse().ok(), in_sync: in_sync.collect() })
}
