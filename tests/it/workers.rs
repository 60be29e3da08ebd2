//! Several workers of one group, as processes on a real broker: they share connectors, hand them over, and take each other's place.

mod upgrade;

use std::collections::BTreeSet;

use serde_json::json;

use crate::support::group::{Group, Lines, Places, id, lines_of, moved};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_worker_takes_its_share_and_one_that_leaves_loses_nothing() {
    let mut group = Group::start(3).await;
    let names: Vec<String> = (0..12).map(|number| format!("c{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        group.source(at % 3, name).await;
    }
    let lines = Lines::start(names.iter().map(|name| group.file(name)).collect());
    let before = group.settled(0, 24, &[0, 1, 2]).await;
    let loads = group.loads(&before);
    assert!(loads.iter().all(|load| (6..=9).contains(load)), "{loads:?}");

    let starts = group.starts();
    let fourth = group.add().await;
    let mut joined = Places::new();
    group.workers[fourth]
        .eventually("the fourth has its share", async || {
            joined = group.settled(fourth, 24, &[0, 1, 2, 3]).await;
            group.loads(&joined)[fourth] == 6
        })
        .await;
    assert_eq!(moved(&before, &joined), 6, "exactly its share");
    assert_eq!(group.starts() - starts, 6, "what was not moved was not touched");

    let held = group.loads(&joined)[0];
    assert_eq!(group.workers[0].terminate().await.code(), Some(0), "{}", group.workers[0].log_tail());
    let left = group.settled(1, 24, &[1, 2, 3]).await;
    assert_eq!(moved(&joined, &left), held, "exactly what it held");
    let count = lines.end().await;
    for name in &names {
        let found = lines_of(&group, 1, name, count).await;
        assert_eq!(found, (0..count).collect::<Vec<_>>(), "{name}: none lost, none twice");
    }
    for worker in &mut group.workers[1..] {
        assert_eq!(worker.terminate().await.code(), Some(0), "{}", worker.log_tail());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_worker_ran_goes_on_elsewhere() {
    let mut group = Group::start(3).await;
    let names: Vec<String> = (0..6).map(|number| format!("c{number}")).collect();
    for (at, name) in names.iter().enumerate() {
        group.source(at % 3, name).await;
    }
    let lines = Lines::start(names.iter().map(|name| group.file(name)).collect());
    let before = group.settled(0, 12, &[0, 1, 2]).await;
    group.workers[2].kill().await;
    let after = group.settled(0, 12, &[0, 1]).await;
    assert_eq!(moved(&before, &after), group.loads(&before)[2]);
    let count = lines.end().await;
    for name in &names {
        let found: BTreeSet<usize> = lines_of(&group, 0, name, count).await.into_iter().collect();
        assert_eq!(found, (0..count).collect(), "{name}: none lost");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_workers_that_create_one_name_at_once_one_succeeds() {
    let group = Group::start(3).await;
    let config =
        json!({"connector.class": "FileStreamSource", "topic": "t", "file": group.file("x").display().to_string()});
    for round in 0..10 {
        let body = json!({"name": format!("same-{round}"), "config": config});
        let create = |worker: usize| group.workers[worker].call("POST", "/connectors", Some(&body));
        let (one, two, three) = tokio::join!(create(0), create(1), create(2));
        let mut statuses: Vec<u16> = [one, two, three].map(|reply| reply.unwrap().status).into();
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409, 409], "round {round}");
    }
    group.settled(0, 20, &[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_worker_restarts_pauses_and_deletes_what_another_runs() {
    let group = Group::start(2).await;
    for number in 0..4 {
        group.source(0, &format!("c{number}")).await;
    }
    let places = group.settled(1, 8, &[0, 1]).await;
    for number in 0..4 {
        let starts = group.starts();
        let other = usize::from(places[&format!("c{number}/0")].0 == id(&group.workers[0]));
        let (name, worker) = (format!("c{number}"), &group.workers[other]);
        let path = format!("/connectors/{name}/tasks/0/restart");
        let reply = worker.call("POST", &path, None).await.unwrap();
        assert_eq!(reply.status, 204, "{reply:?}");
        assert_eq!(group.starts() - starts, 1, "it was restarted once when that was answered");
        let reply = worker.call("PUT", &format!("/connectors/{name}/pause"), None).await.unwrap();
        assert_eq!(reply.status, 202);
        worker.eventually("it is paused", async || worker.states(&name).await == ["PAUSED", "PAUSED"]).await;
        let reply = worker.call("DELETE", &format!("/connectors/{name}"), None).await.unwrap();
        assert_eq!(reply.status, 204);
        let listed = worker.get("/connectors").await;
        assert!(
            !listed.body.json().as_array().unwrap().contains(&json!(name)),
            "who has deleted it lists it: {listed:?}"
        );
    }
    for worker in &group.workers {
        // Each reads of what the other one has deleted when it comes to it.
        let empty = async || *worker.get("/connectors?expand=status").await.body.json() == json!({});
        worker.eventually("nothing is left", empty).await;
    }
}
