//! Starts that the daemon has to refuse: exit code 1, and a sentence that names what is wrong.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use connect_node::backend::NewTopic;

use super::oracle::backend;
use crate::support::broker;
use crate::support::process::{PATIENCE, Worker, free_port};
use crate::support::unique;

/// A refusal that needs no answer from another worker takes no longer than this.
const REFUSAL: Duration = Duration::from_secs(20);

/// Waits for the end and looks for `words` in what the daemon says last.
async fn refuses(worker: &mut Worker, words: &[&str]) {
    let began = Instant::now();
    let status = worker.exit(REFUSAL).await;
    assert_eq!(status.code(), Some(1), "{}", worker.log_tail());
    let log = worker.log();
    let sentence = log.lines().rev().find(|line| line.starts_with("connect-node: "));
    let sentence = sentence.unwrap_or_else(|| panic!("no sentence\n{}", worker.log_tail()));
    for word in words {
        assert!(sentence.contains(word), "{word:?} is not in {sentence:?}");
    }
    println!("refused after {:.1} s: {sentence}", began.elapsed().as_secs_f64());
}

/// A worker whose internal topic `setting` exists already, in another shape.
async fn with_topic(setting: &str, partitions: i32, policy: &str) -> Worker {
    let bootstrap = broker().await.bootstrap();
    let worker = Worker::new(bootstrap, &[]);
    let config = [("cleanup.policy".to_owned(), policy.to_owned())].into();
    let topic = NewTopic { name: worker.setting(setting), partitions, replication_factor: 1, config };
    backend(bootstrap).admin().create_topic(&topic).await.unwrap();
    worker
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_topic_with_two_partitions_is_refused() {
    let mut worker = with_topic("config.storage.topic", 2, "compact").await;
    worker.start();
    let topic = worker.setting("config.storage.topic");
    refuses(&mut worker, &["config.storage.topic", &topic, "2 partitions", "exactly one"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn internal_topics_that_delete_records_are_refused() {
    for setting in ["config.storage.topic", "offset.storage.topic", "status.storage.topic"] {
        let mut worker = with_topic(setting, 1, "delete").await;
        worker.start();
        let topic = worker.setting(setting);
        refuses(&mut worker, &[setting, &topic, "cleanup.policy=delete", "cleanup.policy=compact"]).await;
    }
}

#[tokio::test]
async fn unreadable_properties_are_refused() {
    let mut worker = Worker::new("127.0.0.1:1", &[]);
    fs::remove_file(worker.properties()).unwrap();
    worker.start();
    let file = worker.properties().display().to_string();
    refuses(&mut worker, &[&file, "No such file"]).await;
    fs::create_dir(worker.properties()).unwrap();
    worker.start();
    refuses(&mut worker, &[&file, "directory"]).await;
}

#[tokio::test]
async fn bad_values_are_refused() {
    for (name, value) in [
        ("offset.flush.interval.ms", "soon"),
        ("key.converter", "no.such.Converter"),
        ("listeners", "ftp://here"),
        ("worker.fence.timeout.ms", "-1"),
        ("group.id", ""),
        ("security.protocol", "trust_me"),
    ] {
        let mut worker = Worker::new("127.0.0.1:1", &[(name, value)]);
        worker.start();
        refuses(&mut worker, &[name, value]).await;
    }
}

#[tokio::test]
async fn a_port_in_use_is_refused() {
    let taken = TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let listener = format!("http://127.0.0.1:{port}");
    let mut worker = Worker::new("127.0.0.1:1", &[("listeners", &listener)]);
    worker.start();
    refuses(&mut worker, &["127.0.0.1", &port, "in use"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_worker_of_the_same_id_is_refused_and_the_first_goes_on() {
    let bootstrap = broker().await.bootstrap();
    let mut first = Worker::new(bootstrap, &[]);
    first.start();
    first.ready().await;
    let id = first.url().trim_start_matches("http://").to_owned();
    let port = id.rsplit(':').next().unwrap();
    let same = [("rest.advertised.host.name", "127.0.0.1"), ("rest.advertised.port", port)];
    let mut same_id = first.beside(bootstrap, &same);
    same_id.start();
    refuses(&mut same_id, &[&id, "another living process", "rest.advertised.host.name"]).await;

    let reply = first.get("/health").await;
    assert_eq!(reply.status, 200, "{reply:?}");
    first.kill().await;
    // The dead one's record is still there; nobody has to remove it.
    let mut second = first.beside(bootstrap, &[]);
    second.start();
    second.ready().await;
    assert_eq!(second.terminate().await.code(), Some(0), "{}", second.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_of_another_group_on_the_same_topics_is_refused_and_the_first_goes_on() {
    let bootstrap = broker().await.bootstrap();
    let mut first = Worker::new(bootstrap, &[]);
    first.start();
    first.ready().await;
    let group = unique("other");
    let mut foreign = first.beside(bootstrap, &[("group.id", &group)]);
    foreign.start();
    let (own, id) = (first.setting("group.id"), first.url().trim_start_matches("http://"));
    let reason = ["config.storage.topic", &format!("group.id={own}"), &format!("group.id={group}"), id];
    refuses(&mut foreign, &reason).await;
    let reply = first.get("/health").await;
    assert_eq!(reply.status, 200, "{reply:?}");

    // The topics of a group that has ended may go to another one.
    first.kill().await;
    foreign.start();
    foreign.ready().await;
    assert_eq!(foreign.terminate().await.code(), Some(0), "{}", foreign.log_tail());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_living_java_group_is_refused() {
    let bootstrap = broker().await.bootstrap().to_owned();
    let mut worker = Worker::new(&bootstrap, &[]);
    let group = worker.setting("group.id");
    // The first question for a group makes the topic that coordinators need.
    backend(&bootstrap).committed_offsets().all(&group).await.unwrap();
    let java = tokio::task::spawn_blocking(move || join_as_java_worker(&bootstrap, &group)).await.unwrap();
    worker.start();
    refuses(&mut worker, &["Java", "group.id"]).await;
    drop(java);
}

/// Becomes a member of a group as a Java worker does: protocol type `connect`. Leaves when its session ends.
fn join_as_java_worker(bootstrap: &str, group: &str) -> TcpStream {
    const JOIN_GROUP: (i16, i16) = (11, 2);
    const SESSION_MS: i32 = 45_000;
    const COORDINATOR_ERRORS: [i16; 3] = [14, 15, 16];
    let string = |text: &str| [&(text.len() as i16).to_be_bytes()[..], text.as_bytes()].concat();
    let (key, version) = JOIN_GROUP;
    let request = [
        &key.to_be_bytes()[..],
        &version.to_be_bytes(),
        &1_i32.to_be_bytes(),
        &string("java-worker"),
        &string(group),
        &SESSION_MS.to_be_bytes(),
        &SESSION_MS.to_be_bytes(),
        &string(""),
        &string("connect"),
        &1_i32.to_be_bytes(),
        &string("compatible"),
        &2_i32.to_be_bytes(),
        &[0, 0],
    ]
    .concat();
    let mut stream = TcpStream::connect(bootstrap).unwrap();
    let deadline = Instant::now() + PATIENCE;
    loop {
        stream.write_all(&(request.len() as i32).to_be_bytes()).unwrap();
        stream.write_all(&request).unwrap();
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; i32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        // Behind the correlation id and the throttle time.
        match i16::from_be_bytes([answer[8], answer[9]]) {
            0 => return stream,
            error if COORDINATOR_ERRORS.contains(&error) && Instant::now() < deadline => {}
            error => panic!("JoinGroup was answered with error {error}"),
        }
    }
}
