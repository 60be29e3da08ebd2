//! Conditional requests and PATCH over REST, also at two workers at once; what workers say of the cluster; evictions.

use futures_util::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::scenarios::client::Reply;
use crate::support::node::{Setup, TestNode, on_all, until};
use crate::support::process::binary;
use crate::support::unique;

on_all!(a_version_guards_a_configuration);

/// Two workers, which no directory can have.
mod two {
    use super::*;

    macro_rules! in_memory_and_on_kafka {
        ($($test:ident),* $(,)?) => {$(
            mod $test {
                use super::*;

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn in_memory() {
                    super::super::$test(Setup::memory()).await;
                }

                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn on_kafka() {
                    super::super::$test(Setup::kafka().await).await;
                }
            }
        )*};
    }

    in_memory_and_on_kafka!(
        of_two_workers_that_are_given_the_same_version_one_writes,
        changes_of_single_settings_at_two_workers_lose_nothing,
        a_worker_that_lives_joins_again_after_an_eviction,
    );
}

/// Clients of each worker that change the same connector at once.
const CLIENTS: usize = 4;

/// How often two workers race.
const ROUNDS: usize = 10;

fn config(salt: &str) -> Value {
    json!({"connector.class": "FileStreamSource", "topic": "t", "file": "/nothing/to/read/for/a/test", "salt": salt})
}

/// Creates a connector that has nothing to do, and returns its tag.
async fn create(node: &TestNode, name: &str) -> String {
    let body = json!({"name": name, "config": config("0"), "initial_state": "STOPPED"}).to_string();
    let reply = node.call("POST", "/connectors", Some(body)).await;
    assert_eq!(reply.status, 201, "{}", reply.body.json());
    reply.etag.expect("a tag")
}

async fn a_version_guards_a_configuration(setup: Setup) {
    let node = setup.start().await;
    let name = unique("guarded");
    let (target, path) = (format!("/connectors/{name}"), format!("/connectors/{name}/config"));
    let absent = node.demand("PUT", &path, ("If-Match", "*"), Some(config("0"))).await;
    assert_eq!((absent.status, absent.body.json()["error_code"].as_u64()), (412, Some(412)));
    let created = create(&node, &name).await;
    assert_eq!(node.get(&path).await.etag.as_deref(), Some(&*created));
    assert_eq!(node.get(&target).await.etag.as_deref(), Some(&*created));
    let put = node.demand("PUT", &path, ("If-Match", &created), Some(config("1"))).await;
    let second = put.etag.clone().expect("a tag");
    assert_eq!((put.status, put.location), (200, None));
    for (method, target, body) in
        [("PUT", &path, Some(config("2"))), ("PATCH", &path, Some(json!({"salt": "2"}))), ("DELETE", &target, None)]
    {
        let weak = format!("W/{second}");
        for stale in [&*created, &*weak, "\"no-version\""] {
            assert_eq!(node.demand(method, target, ("If-Match", stale), body.clone()).await.status, 412, "{method}");
        }
        assert_eq!(node.demand(method, target, ("If-Match", "2"), body).await.status, 400);
    }
    let there = node.demand("PUT", &path, ("If-None-Match", "*"), Some(config("2"))).await;
    assert_eq!(there.status, 412);
    let read = node.get(&path).await;
    assert_eq!((read.etag.as_deref(), &read.body.json()["salt"]), (Some(&*second), &json!("1")));
    let one_of_two = format!("{created}, {second}");
    let patched = node.demand("PATCH", &path, ("If-Match", &one_of_two), Some(json!({"salt": null, "x": 5}))).await;
    assert_eq!((patched.status, &patched.body.json()["config"]["x"]), (200, &json!("5")));
    assert_eq!(patched.body.json()["config"].get("salt"), None);
    let third = patched.etag.expect("a tag");
    assert_eq!(node.demand("DELETE", &target, ("If-Match", &third), None).await.status, 204);
    let again = node.demand("PUT", &path, ("If-None-Match", "*"), Some(config("0"))).await;
    assert_eq!(again.status, 201);
    assert_ne!(again.etag, Some(created));
    node.delete(&name).await;
}

fn statuses(replies: &[Reply]) -> Vec<u16> {
    let mut statuses: Vec<u16> = replies.iter().map(|reply| reply.status).collect();
    statuses.sort_unstable();
    statuses
}

async fn of_two_workers_that_are_given_the_same_version_one_writes(setup: Setup) {
    let (one, two) = (setup.start().await, setup.start().await);
    let mut tag = create(&one, "a").await;
    for round in 0..ROUNDS {
        let put = async |node: &TestNode| {
            let body = config(&format!("{round} {}", node.url));
            node.demand("PUT", "/connectors/a/config", ("If-Match", &tag), Some(body)).await
        };
        let (first, second) = tokio::join!(put(&one), put(&two));
        let replies = [first, second];
        assert_eq!(statuses(&replies), [200, 412]);
        let won = replies.into_iter().find(|reply| reply.status == 200).expect("one of them");
        tag = won.etag.expect("a tag");
        for node in [&one, &two] {
            until("both have read it", async || node.get("/connectors/a/config").await.etag.as_ref() == Some(&tag))
                .await;
            assert_eq!(node.get("/connectors/a/config").await.body.json(), &won.body.json()["config"]);
        }
    }
}

async fn changes_of_single_settings_at_two_workers_lose_nothing(setup: Setup) {
    let nodes = [setup.start().await, setup.start().await];
    create(&nodes[0], "a").await;
    let any = ("If-Match", "*");
    let names: Vec<String> = (0..2 * CLIENTS).map(|client| format!("setting-{client}")).collect();
    let patch = async |(client, name): (usize, &String)| {
        nodes[client % 2].demand("PATCH", "/connectors/a/config", any, Some(json!({name.as_str(): client}))).await
    };
    let replies = join_all(names.iter().enumerate().map(patch)).await;
    assert_eq!(statuses(&replies), [200; 2 * CLIENTS]);
    for node in &nodes {
        let all = async || {
            let reply = node.get("/connectors/a/config").await;
            names.iter().all(|name| reply.body.json().get(name).is_some())
        };
        until("all of them are there", all).await;
    }
}

/// The life of a worker by another one's view of the members.
async fn life(node: &TestNode, worker: &str) -> Option<i64> {
    let view = node.get("/cluster?units=false").await;
    assert_eq!(view.body.json().get("units"), None);
    let members = view.body.json()["members"].as_array().expect("a list").clone();
    members.iter().find(|member| member["worker_id"] == worker).and_then(|member| member["incarnation"].as_i64())
}

/// The command of an operator: the one sentence that it says, an error where it exits with 1.
async fn evict(worker: &str, url: &str) -> Result<String, String> {
    let output = Command::new(binary()).args(["evict", worker, "--url", url]).output().await.unwrap();
    let (done, code) = (output.status.success(), output.status.code());
    let (said, other) = if done { (output.stdout, output.stderr) } else { (output.stderr, output.stdout) };
    let said = String::from_utf8(said).unwrap();
    assert_eq!((said.lines().count(), other, code), (1, vec![], Some(i32::from(!done))), "{said}");
    if done { Ok(said) } else { Err(said) }
}

async fn a_worker_that_lives_joins_again_after_an_eviction(setup: Setup) {
    let (one, two) = (setup.start().await, setup.start().await);
    let id = |node: &TestNode| node.url.trim_start_matches("http://").to_owned();
    until("each sees both", async || life(&one, &id(&two)).await.is_some() && life(&two, &id(&one)).await.is_some())
        .await;
    let before = life(&one, &id(&two)).await.expect("it is a member");
    let said = evict(&id(&two), &one.url).await.unwrap();
    assert!(said.contains(&format!("{} (incarnation {before})", id(&two))), "{said}");
    until("it has joined again", async || life(&one, &id(&two)).await.is_some_and(|life| life > before)).await;
    for (worker, url, part) in [
        (id(&one), one.url.clone(), "answered 409"),
        ("none:1".to_owned(), one.url.clone(), "answered 404"),
        ("a/b".to_owned(), one.url.clone(), "answered 400"),
        (id(&one), "http://127.0.0.1:1".to_owned(), "no answer"),
        (id(&one), "https://127.0.0.1:1".to_owned(), "HTTPS"),
    ] {
        let said = evict(&worker, &url).await.unwrap_err();
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(life(&two, "none:1").await, None);
}
