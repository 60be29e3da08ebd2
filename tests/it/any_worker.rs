//! A client that goes from one worker to another with each request finds at each what it did at the others.

use serde_json::json;

use crate::support::node::Setup;

/// How often a client goes from one worker to the other and back.
const ROUNDS: usize = 20;

/// A connector that has nothing to do.
fn body(name: &str) -> String {
    let config = json!({"connector.class": "FileStreamSource", "topic": "t", "file": "/nothing/to/read/for/a/test"});
    json!({"name": name, "config": config}).to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_has_written_the_other_knows_in_memory() {
    what_one_worker_has_written_the_other_knows(Setup::memory()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_worker_has_written_the_other_knows_on_kafka() {
    what_one_worker_has_written_the_other_knows(Setup::kafka().await).await;
}

async fn what_one_worker_has_written_the_other_knows(setup: Setup) {
    let nodes = [setup.start().await, setup.start().await];
    let (mut answers, mut expected) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let name = format!("c{round}");
        let (one, other) = (&nodes[round % 2], &nodes[1 - round % 2]);
        let path = |rest: &str| format!("/connectors/{name}{rest}");
        let mut write = async |node: usize, method: &str, path: &str, body: Option<String>, wanted: u16| {
            let node = [one, other][node];
            answers.push((round, method.to_owned(), path.to_owned(), node.call(method, path, body).await.status));
            expected.push((round, method.to_owned(), path.to_owned(), wanted));
        };
        let verb = ["/stop", "/pause"][round / 2 % 2];
        write(0, "POST", "/connectors", Some(body(&name)), 201).await;
        write(1, "PUT", &path(verb), None, if verb == "/stop" { 204 } else { 202 }).await;
        write(0, "DELETE", &path(""), None, 204).await;
        write(1, "POST", "/connectors", Some(body(&name)), 201).await;
        write(0, "POST", "/connectors", Some(body(&name)), 409).await;
        write(1, "DELETE", &path(""), None, 204).await;
        write(1, "PUT", &path("/resume"), None, 404).await;
    }
    assert_eq!(answers, expected);
}

/// Stops and resumes reach the holder of a connector in any order and number: after a resume that comes last, it has its tasks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_resume_at_any_worker_brings_the_tasks_back() {
    let setup = Setup::memory();
    let nodes = [setup.start().await, setup.start().await];
    for round in 0..ROUNDS {
        let name = format!("c{round}");
        assert_eq!(nodes[0].call("POST", "/connectors", Some(body(&name))).await.status, 201);
        nodes[0].wait_until_running(&name, 1).await;
        let (stop, resume) = (format!("/connectors/{name}/stop"), format!("/connectors/{name}/resume"));
        for node in &nodes {
            tokio::join!(node.call("PUT", &stop, None), node.call("PUT", &resume, None));
        }
        nodes[1].steer(&name, "resume").await;
        let tasks = async || {
            let reply = nodes[0].get(&format!("/connectors/{name}/tasks")).await;
            reply.body.json().as_array().map_or(0, Vec::len)
        };
        nodes[0].until("it has a task", async || tasks().await == 1).await;
        nodes[0].wait_until_running(&name, 1).await;
    }
}
