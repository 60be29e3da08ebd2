//! A principal that may do everything but write under the shared transactional id.

use std::fs::{self, File};
use std::io::Write;

use serde_json::json;

use crate::scenarios::client::Reply;
use crate::support::broker::{Broker, Security, tool};
use crate::support::process::Worker;
use crate::support::unique;

const USER: &str = "bob";
const PASSWORD: &str = "secret";
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";

/// A broker with ACLs. Who comes by its open listener may do everything.
async fn broker() -> Broker {
    let properties = [
        "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".to_owned(),
        "super.users=User:ANONYMOUS".to_owned(),
        "listener.name.saslplain.sasl.enabled.mechanisms=PLAIN".to_owned(),
        format!("listener.name.saslplain.plain.sasl.jaas.config={PLAIN} required user_{USER}=\"{PASSWORD}\";"),
    ];
    let listeners = vec![("SASLPLAIN", "SASL_PLAINTEXT")];
    Broker::start_with(Security { listeners, properties: properties.into(), ..Security::default() }).await
}

/// Allows the user what the arguments say, by Kafka's own tool.
async fn allow(broker: &Broker, what: &[&str]) {
    let principal = format!("User:{USER}");
    tool(broker.bootstrap(), "AclCommand", &[&["--add", "--allow-principal", &principal], what].concat()).await;
}

/// A request to create a connector that has nothing to read.
async fn create(worker: &Worker, name: &str) -> Reply {
    let file = worker.directory().join("nothing").display().to_string();
    let body = json!({"name": name, "config": {"connector.class": "FileStreamSource", "topic": "t", "file": file}});
    worker.call("POST", "/connectors", Some(&body)).await.unwrap()
}

/// What `/health` says of a worker that is healthy.
async fn message(worker: &Worker) -> String {
    let reply = worker.get("/health").await;
    assert_eq!(reply.status, 200, "what it runs goes on: {reply:?}");
    reply.body.json()["message"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_acl_for_the_transactional_id_is_named_until_it_comes() {
    let broker = broker().await;
    allow(&broker, &["--operation", "All", "--topic", "*", "--group", "*", "--cluster"]).await;
    let mut allowed = Worker::new(broker.bootstrap(), &[]);
    let (input, output) = (allowed.directory().join("input"), allowed.directory().join("output"));
    fs::write(&input, "first\n").unwrap();
    allowed.start();
    allowed.ready().await;
    assert!(!message(&allowed).await.contains("ACL"));
    let (file, copy, topic) = (input.display().to_string(), output.display().to_string(), unique("acl"));
    allowed.put("lines", &[("connector.class", "FileStreamSource"), ("file", &file), ("topic", &topic)]).await;
    allowed.put("copy", &[("connector.class", "FileStreamSink"), ("file", &copy), ("topics", &topic)]).await;
    let copied = async |lines: &str| fs::read_to_string(&output).is_ok_and(|text| text == lines);
    allowed.eventually("the first line is copied", async || copied("first\n").await).await;
    assert!(allowed.terminate().await.success(), "{}", allowed.log_tail());

    let login = format!("{PLAIN} required username=\"{USER}\" password=\"{PASSWORD}\";");
    let settings =
        [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", &*login)];
    let mut worker = allowed.beside(&broker.listener("SASLPLAIN"), &settings);
    let id = format!("connect-cluster-{}", worker.setting("group.id"));
    let acl = format!("Write and Describe on TransactionalId {id}");
    worker.start();
    worker.ready().await;
    worker.eventually("/health names the ACL", async || message(&worker).await.contains(&acl)).await;
    let errors = || worker.log().lines().filter(|line| line.contains("ERROR") && line.contains(&acl)).count();
    assert_eq!(errors(), 1, "{}", worker.log_tail());

    // What it takes over runs: that needs no transaction.
    writeln!(File::options().append(true).open(&input).unwrap(), "second").unwrap();
    worker.eventually("the second line is copied", async || copied("first\nsecond\n").await).await;
    assert_eq!(worker.get("/connectors").await.body.json().as_array().map(Vec::len), Some(2));

    // Describe alone finds the coordinator, which then refuses a producer id.
    for (granted, refusal) in [(None, "coordinator"), (Some("Describe"), "PID")] {
        if let Some(operation) = granted {
            allow(&broker, &["--operation", operation, "--transactional-id", &id]).await;
        }
        let refused = async || {
            let reply = create(&worker, "refused").await;
            let message = reply.body.json()["message"].as_str().unwrap_or_default().to_owned();
            assert!(reply.status == 500 && message.contains(&acl), "{reply:?}");
            message.contains(refusal)
        };
        worker.eventually(&format!("a {refusal} is refused"), refused).await;
    }
    assert_eq!(errors(), 1, "it is said once\n{}", worker.log_tail());

    allow(&broker, &["--operation", "Write", "--transactional-id", &id]).await;
    worker.eventually("it may write now", async || create(&worker, "created").await.status == 201).await;
    assert!(!message(&worker).await.contains("ACL"));
    worker.eventually("it runs", async || worker.states("created").await == ["RUNNING", "RUNNING"]).await;
    assert!(worker.terminate().await.success(), "{}", worker.log_tail());
}
