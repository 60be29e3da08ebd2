//! Codes, bodies and headers of every endpoint.

use serde_json::json;

use super::support::{Server, server};

#[tokio::test]
async fn the_worker_presents_itself() {
    let server = server().await;
    let root = server.get("/").await;
    assert_eq!(root.status, 200);
    assert_eq!(root.header("content-type"), Some("application/json"));
    assert_eq!(root.json(), json!({"version": "1", "commit": "c", "kafka_cluster_id": "k"}));
    let health = server.get("/health/").await;
    assert_eq!((health.status, health.json()), (200, json!({"status": "healthy", "message": "all is well"})));
}

#[tokio::test]
async fn reading() {
    let server = server().await;
    let names = server.get("/connectors").await;
    assert_eq!((names.status, names.json()), (200, json!(["b", "a", "none"])));
    let info = json!({"name": "a", "config": {}, "tasks": [], "type": "source"});
    assert_eq!(server.get("/connectors/a").await.json(), info);
    assert_eq!(server.get("/connectors/a/config").await.json(), json!({}));
    let status = json!({
        "name": "a",
        "connector": {"state": "RUNNING", "worker_id": "x:1", "version": "1"},
        "tasks": [{"id": 0, "state": "FAILED", "worker_id": "x:1", "version": "1", "trace": "it broke"}],
        "type": "sink",
    });
    assert_eq!(server.get("/connectors/a/status/").await.json(), status);
    let tasks = json!([{"id": {"connector": "a", "task": 0}, "config": {"task.class": "T"}}]);
    assert_eq!(server.get("/connectors/a/tasks").await.json(), tasks);
    let task = json!({"id": 7, "state": "RUNNING", "worker_id": "x:1", "version": "1"});
    assert_eq!(server.get("/connectors/a/tasks/7/status").await.json(), task);
    for task in ["-1", "x", "1.0", "2147483648", "99999999999999999999", "%20"] {
        server.get(&format!("/connectors/a/tasks/{task}/status")).await.error(404);
        server.send("POST", &format!("/connectors/a/tasks/{task}/restart"), "", "").await.error(404);
    }
    assert_eq!(server.get("/connector-plugins").await.status, 200);
    // the name is decoded and not trimmed
    assert_eq!(server.get("/connectors/%20%C3%BC+%3f").await.json()["name"], " \u{fc}+?");
}

#[tokio::test]
async fn expand_makes_a_map_and_leaves_out_what_is_missing() {
    let server = server().await;
    let keys = |answer: super::support::Answer| {
        let body = answer.json();
        let parts = |name: &str| body[name].as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
        assert!(answer.status == 200 && body.get("a").is_some());
        (body.get("none").is_some(), parts("a"))
    };
    assert_eq!(keys(server.get("/connectors?expand=info").await), (false, "info".into()));
    assert_eq!(keys(server.get("/connectors?expand=status").await), (false, "status".into()));
    assert_eq!(keys(server.get("/connectors?expand=info&expand=status").await), (false, "info status".into()));
    assert_eq!(keys(server.get("/connectors?expand=bogus&expand=info").await), (false, "info".into()));
    for unknown in ["expand", "expand=", "expand=bogus", "expand=info,status", "expand=STATUS"] {
        assert_eq!(keys(server.get(&format!("/connectors?{unknown}")).await), (true, String::new()), "{unknown}");
    }
}

#[tokio::test]
async fn creating() {
    let server = server().await;
    let body = r#"{"name": "  a b\t", "config": {"x": 1.50, "y": true, "z": null}, "initial_state": "paused"}"#;
    let answer = server.json("POST", "/connectors", body).await;
    assert_eq!(answer.status, 201);
    assert_eq!(answer.header("location"), Some("http://worker.example:8083/connectors/a%20b"));
    assert_eq!(answer.json()["config"], json!({"name": "a b", "x": "1.50", "y": "true"}));
    let config = r#"{"name": Some("a b"), "x": Some("1.50"), "y": Some("true"), "z": None}"#;
    assert_eq!(server.take_seen(), [format!("create \"a b\" Some(Paused) {config}")]);

    for (state, passed) in [("null", "None"), ("\"Running\"", "Some(Started)"), ("\"STOPPED\"", "Some(Stopped)")] {
        let body = format!(r#"{{"name": "a", "config": {{}}, "initial_state": {state}}}"#);
        assert_eq!(server.json("POST", "/connectors/", body).await.status, 201);
        assert_eq!(server.take_seen(), [format!("create \"a\" {passed} {{\"name\": Some(\"a\")}}")]);
    }
    for (body, part) in [
        (r#"{"name": "a", "config": {}, "initial_state": "GONE"}"#, "initial_state \"GONE\""),
        (r#"{"name": "a", "config": {"name": "b"}}"#, "the setting 'name' is \"b\""),
        (r#"{"name": "a", "config": {"name": "a "}}"#, "the setting 'name' is \"a \""),
        (r#"{"config": {"name": "b"}}"#, "the connector \"\""),
    ] {
        let message = server.json("POST", "/connectors", body).await.error(400);
        assert!(message.contains(part), "{message}");
        assert!(server.take_seen().is_empty());
    }
    // whether an empty name is one is for the herder to say
    server.json("POST", "/connectors", r#"{"name": null, "config": {}}"#).await;
    assert_eq!(server.take_seen(), ["create \"\" None {\"name\": Some(\"\")}"]);
}

#[tokio::test]
async fn changing_and_deleting() {
    let server = server().await;
    let new = server.json("PUT", "/connectors/new%20one/config", r#"{"x": 1e3}"#).await;
    assert_eq!((new.status, new.header("location")), (201, Some("http://worker.example:8083/connectors/new%20one")));
    let old = server.json("PUT", "/connectors/a/config", r#"{"name": "a"}"#).await;
    assert_eq!((old.status, old.header("location")), (200, None));
    server.json("PUT", "/connectors/a/config", r#"{"name": "b"}"#).await.error(400);
    server.json("PUT", "/connectors/a/config", "[]").await.error(400);
    let deleted = server.send("DELETE", "/connectors/a", "", "").await;
    assert_eq!((deleted.status, deleted.body.len(), deleted.header("content-length")), (204, 0, None));
    let seen = [
        r#"put "new one" {"name": Some("new one"), "x": Some("1e3")}"#,
        r#"put "a" {"name": Some("a")}"#,
        "delete \"a\"",
    ];
    assert_eq!(server.take_seen(), seen);
}

#[tokio::test]
async fn patching() {
    let server = server().await;
    let patched = server.json("PATCH", "/connectors/a%20b/config", r#"{"x": 1.50, "name": "a b", "y": null}"#).await;
    assert_eq!((patched.status, patched.header("location")), (200, None));
    assert_eq!(
        patched.json(),
        json!({"name": "a b", "config": {"name": "a b", "x": "1.50"}, "tasks": [], "type": "source"})
    );
    let seen = r#"patch "a b" {"name": Some("a b"), "x": Some("1.50"), "y": None}"#;
    assert_eq!(server.take_seen(), [seen]);
    server.json("PATCH", "/connectors/a/config", "{}").await;
    assert_eq!(server.take_seen(), [r#"patch "a" {}"#], "nothing is added to what was sent");
    for body in ["", "null", "[]", "1", r#"{"x": {}}"#, r#"{"x": [1]}"#, "{", r#"{"name": "b"}"#] {
        server.json("PATCH", "/connectors/a/config", body).await.error(400);
    }
    server.send("PATCH", "/connectors/a/config", "Content-Type: text/plain\r\n", "{}").await.error(415);
    server.json("PATCH", "/connectors/a", "{}").await.error(405);
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn configurations_have_an_etag() {
    let server = server().await;
    let create = r#"{"name": "a", "config": {}}"#;
    for (method, target, body, status) in [
        ("GET", "/connectors/a", "", 200),
        ("GET", "/connectors/a/config", "", 200),
        ("POST", "/connectors", create, 201),
        ("PUT", "/connectors/a/config", "{}", 200),
        ("PUT", "/connectors/new/config", "{}", 201),
        ("PATCH", "/connectors/a/config", "{}", 200),
    ] {
        let answer = server.json(method, target, body).await;
        assert_eq!((answer.status, answer.header("etag")), (status, Some("\"42\"")), "{method} {target}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("version"), "the body is Java's");
    }
    for target in ["/connectors", "/connectors/none", "/connectors/a/status", "/connectors/a/tasks", "/cluster"] {
        assert_eq!(server.get(target).await.header("etag"), None, "{target}");
    }
    assert_eq!(server.get("/connectors?expand=info").await.json()["a"]["info"].as_object().unwrap().len(), 4);
}

#[tokio::test]
async fn what_is_demanded_reaches_the_herder() {
    let server = server().await;
    let with = async |method: &str, target: &str, headers: &str| {
        let headers = format!("Content-Type: application/json\r\n{headers}");
        let body = if method == "DELETE" { "" } else { "{}" };
        server.send(method, target, &headers, body).await
    };
    for (method, target, seen) in [
        ("PUT", "/connectors/a/config", r#"put "a" {"name": Some("a")}"#),
        ("PATCH", "/connectors/a/config", r#"patch "a" {}"#),
        ("DELETE", "/connectors/a", r#"delete "a""#),
    ] {
        for (headers, demanded) in [
            ("If-Match: *\r\n", "Some(Any) false"),
            ("If-Match: \"12\"\r\n", "Some(OneOf([12])) false"),
            ("iF-mAtCh: W/\"1\", \"x\", \"2\"\r\nIf-Match: \"3\"\r\n", "Some(OneOf([2, 3])) false"),
        ] {
            assert!(with(method, target, headers).await.status < 300);
            assert_eq!(server.take_seen(), [format!("{seen} if {demanded}")]);
        }
        for headers in ["If-Match: 12\r\n", "If-Match:\r\n", "If-Match: \"1\r\n", "If-Match: \"1\"\r\nIf-Match: *\r\n"]
        {
            let message = with(method, target, headers).await.error(400);
            assert!(message.contains("if-match"), "{message}");
        }
        let long = format!("If-Match: {}\r\n", "x".repeat(60_000));
        assert!(with(method, target, &long).await.error(400).len() < 400, "it is not repeated in full");
        let tags = format!("If-Match: {}\r\n", "\"1\",".repeat(15_000));
        assert!(with(method, target, &tags).await.status < 300);
        assert_eq!(server.take_seen().len(), 1);
    }
    let absent = "If-None-Match: *\r\n";
    assert_eq!(with("PUT", "/connectors/new/config", absent).await.status, 201);
    assert_eq!(server.take_seen(), [r#"put "new" {"name": Some("new")} if None true"#]);
    for (method, target) in [("PATCH", "/connectors/a/config"), ("DELETE", "/connectors/a")] {
        with(method, target, absent).await.error(400);
    }
    with("PUT", "/connectors/a/config", "If-None-Match: \"1\"\r\n").await.error(400);
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn what_workers_ask_each_other() {
    let server = server().await;
    let identity = server.get("/cluster/self").await.json();
    assert_eq!(identity, json!({"worker_id": "w:1", "nonce": "7", "process": "p"}));
    let max = u64::MAX;
    let reaches = server.get(&format!("/cluster/reaches?worker_id=w%3A1&nonce={max}")).await;
    assert_eq!((reaches.status, reaches.json()), (200, json!({"reaches": true})));
    assert_eq!(server.take_seen(), [format!("reaches \"w:1\" {max}")]);
    server.get("/cluster/reaches?worker_id=none&nonce=1").await.error(404);
    server.take_seen();
    for query in
        ["", "?worker_id=w", "?nonce=1", "?worker_id=&nonce=1", "?worker_id=w&nonce=-1", "?worker_id=w&nonce=x"]
    {
        server.get(&format!("/cluster/reaches{query}")).await.error(400);
    }
    assert!(server.take_seen().is_empty());
}

#[tokio::test]
async fn the_cluster_and_evictions() {
    let server = server().await;
    let view = server.get("/cluster").await.json();
    let worker = json!({"worker_id": "w:1", "incarnation": null, "lease_age_ms": 5, "config_position": 9});
    let member = json!({
        "worker_id": "w:1", "incarnation": 3, "state": "joined", "settled": true, "load": 1, "version": "1",
        "heard": null, "rest_url": "http://w:1/",
    });
    let unit = json!({
        "name": "status-task-a-0", "owner": "w:1", "holder": {"worker_id": "w:1", "incarnation": 3}, "state": "RUNNING",
        "waiting": null,
    });
    let next = "status-task-a-0";
    assert_eq!(view, json!({"worker": worker, "members": [member], "units": [unit], "next": next}));
    let without = server.get("/cluster?units=false").await.json();
    assert_eq!(without, json!({"worker": worker, "members": [member]}));
    server.get("/cluster?after=status-task-a%2F0&units=true").await;
    assert_eq!(server.take_seen(), ["cluster Some(None)", "cluster None", "cluster Some(Some(\"status-task-a/0\"))"]);

    let evicted = server.send("POST", "/cluster/members/w%3A1/evict", "", "").await;
    assert_eq!((evicted.status, evicted.json()), (200, json!({"worker_id": "w:1", "incarnation": 7})));
    assert_eq!(server.take_seen(), ["evict \"w:1\""]);
    server.send("POST", "/cluster/members/none/evict", "", "").await.error(404);
    server.send("POST", "/cluster/members/taken/evict", "", "").await.error(409);
    server.get("/cluster/members/a/evict").await.error(405);
    server.get("/cluster/members").await.error(404);
    server.get("/cluster/members/a").await.error(404);
    server.send("POST", "/cluster", "", "").await.error(405);
}

#[tokio::test]
async fn plug_ins_and_their_settings() {
    let server = server().await;
    let definition = json!({
        "name": "limit", "type": "INT", "required": false, "default_value": "7", "importance": "HIGH",
        "documentation": "The end.", "group": "G", "order_in_group": 1, "width": "SHORT", "display_name": "Limit",
        "dependents": ["x"],
    });
    assert_eq!(server.get("/connector-plugins/a.B/config?version=1").await.json(), json!([definition]));
    let checked = server.json("PUT", "/connector-plugins/a.B/config/validate/", r#"{"limit": 1e3, "y": null}"#).await;
    let value = |name: &str, errors: &[&str], visible: bool| json!({"name": name, "value": null, "recommended_values": [], "errors": errors, "visible": visible});
    let expected = json!({
        "name": "C", "error_count": 1, "groups": ["G"],
        "configs": [
            {"definition": definition, "value": value("limit", &["limit: no"], true)},
            {"definition": null, "value": value("y", &[], false)},
        ],
    });
    assert_eq!((checked.status, checked.json()), (200, expected));
    let seen = [r#"definition "a.B" Some("1")"#, r#"validate "a.B" {"limit": Some("1e3"), "y": None}"#];
    assert_eq!(server.take_seen(), seen);

    let validate = "/connector-plugins/a.B/config/validate";
    for body in ["", "null", "[]", r#"{"x": {}}"#, "{"] {
        server.json("PUT", validate, body).await.error(400);
    }
    server.json("PUT", "/connector-plugins/bad/config/validate", "{}").await.error(400);
    server.json("PUT", "/connector-plugins/broken/config/validate", "{}").await.error(500);
    server.get("/connector-plugins/none/config").await.error(404);
    server.get(validate).await.error(405);
    server.json("POST", validate, "{}").await.error(405);
    server.json("PUT", "/connector-plugins/a.B/config", "{}").await.error(405);
    server.get("/connector-plugins/a.B").await.error(404);
    server.send("PUT", validate, "Content-Type: text/plain\r\n", "{}").await.error(415);
    server.send("PUT", validate, "Content-Type: application/json\r\nAccept: text/html\r\n", "{}").await.error(406);
    server.send("PUT", validate, "Content-Type: text/plain\r\nAccept: text/html\r\n", "{}").await.error(415);
}

#[tokio::test]
async fn offsets_and_topics() {
    let server = server().await;
    let offsets = server.get("/connectors/a/offsets").await;
    // Java's spelling of numbers is kept.
    let text = r#"{"offsets":[{"partition":{"filename":"f"},"offset":{"position":1.0E10}}]}"#;
    assert_eq!(String::from_utf8_lossy(&offsets.body), text);
    assert_eq!(server.get("/connectors/a/topics").await.json(), json!({"a": {"topics": ["t", "u"]}}));
    let reset = server.send("PUT", "/connectors/a/topics/reset", "", "").await;
    assert_eq!((reset.status, reset.body.len(), reset.header("content-length")), (202, 0, Some("0")));
    assert_eq!(server.take_seen(), ["reset topics \"a\""]);
    server.get("/connectors/none/offsets").await.error(404);
    server.get("/connectors/forbidden/topics").await.error(403);
    server.send("PUT", "/connectors/forbidden/topics/reset", "", "").await.error(403);
    server.get("/connectors/a/topics/reset").await.error(405);
    server.send("PUT", "/connectors/a/topics", "", "").await.error(405);
    server.send("POST", "/connectors/a/offsets", "", "").await.error(405);
    server.send("PUT", "/connectors/a/topics/reset", "Content-Type: text/plain\r\n", "").await.error(415);
    server.send("GET", "/connectors/none/offsets", "Accept: text/html\r\n", "").await.error(406);
}

#[tokio::test]
async fn steering() {
    let server = server().await;
    for (request, status, seen) in [
        ("PUT /connectors/a/pause", 202, "target \"a\" Paused"),
        ("PUT /connectors/a/resume", 202, "target \"a\" Started"),
        ("PUT /connectors/a/stop", 204, "target \"a\" Stopped"),
        ("POST /connectors/a/restart", 204, "restart \"a\""),
        ("POST /connectors/a/restart?includeTasks=yes&onlyFailed=", 204, "restart \"a\""),
        ("POST /connectors/a/restart?includeTasks=TRUE", 202, "restart \"a\" tasks=true failed=false"),
        ("POST /connectors/a/restart?onlyFailed=true", 202, "restart \"a\" tasks=false failed=true"),
        ("POST /connectors/a/tasks/3/restart", 204, "restart task \"a\" 3"),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let answer = server.send(method, target, "", "").await;
        assert_eq!((answer.status, server.take_seen()), (status, vec![seen.to_owned()]), "{request}");
        if status == 202 && !seen.starts_with("restart") {
            assert_eq!(answer.header("content-length"), Some("0"), "{request}");
        }
        match seen.contains("tasks=") {
            true => assert_eq!(answer.json()["name"], "a"),
            false => assert!(answer.body.is_empty(), "{request}"),
        }
    }
}

#[tokio::test]
async fn errors_of_the_herder_have_their_status() {
    let server = server().await;
    for (name, status) in [
        ("none", 404),
        ("bad", 400),
        ("taken", 409),
        ("changed", 412),
        ("busy", 503),
        ("starting", 503),
        ("late", 500),
        ("broken", 500),
        ("crash", 500),
    ] {
        let create = server.json("POST", "/connectors", format!(r#"{{"name":"{name}","config":{{}}}}"#)).await;
        create.error(status);
        assert_eq!(create.header("retry-after").is_some(), status == 503);
        for (method, path) in [
            ("GET", ""),
            ("DELETE", ""),
            ("GET", "/config"),
            ("GET", "/status"),
            ("GET", "/tasks"),
            ("GET", "/tasks/0/status"),
            ("PUT", "/pause"),
            ("PUT", "/resume"),
            ("PUT", "/stop"),
            ("POST", "/restart"),
            ("POST", "/restart?includeTasks=true"),
            ("POST", "/tasks/0/restart"),
        ] {
            server.send(method, &format!("/connectors/{name}{path}"), "", "").await.error(status);
        }
        server.json("PUT", &format!("/connectors/{name}/config"), "{}").await.error(status);
        server.json("PATCH", &format!("/connectors/{name}/config"), "{}").await.error(status);
    }
}

#[tokio::test]
async fn head_is_get_without_a_body() {
    let server = server().await;
    for target in
        ["/", "/health", "/connectors", "/connectors/a", "/connectors/none", "/connectors/a/status", "/metrics"]
    {
        let (get, mut head) = (server.get(target).await, server.send("HEAD", target, "", "").await);
        assert!(head.body.is_empty() && !get.body.is_empty());
        head.headers.insert("date".into(), get.header("date").unwrap().into());
        assert_eq!((head.status, &head.headers), (get.status, &get.headers), "{target}");
    }
    let answer = server.send("HEAD", "/nope", "", "").await;
    assert_eq!((answer.status, answer.body.len()), (404, 0));
}

#[tokio::test]
async fn options_list_the_methods() {
    let server = server().await;
    for (target, allow) in [
        ("/connectors", "GET,HEAD,OPTIONS,POST"),
        ("/connectors/a/config", "GET,HEAD,OPTIONS,PATCH,PUT"),
        ("/connectors/a/restart", "OPTIONS,POST"),
    ] {
        let answer = server.send("OPTIONS", target, "", "").await;
        assert_eq!(
            (answer.status, answer.header("content-type"), answer.header("allow")),
            (200, Some("text/plain"), Some(allow))
        );
        assert_eq!(answer.body, allow.as_bytes());
    }
    server.send("OPTIONS", "/nope", "", "").await.error(404);
}

#[tokio::test]
async fn routing_errors() {
    let server = server().await;
    for (request, status) in [
        ("GET /nope", 404),
        ("GET /CONNECTORS", 404),
        ("GET /connectors/a/nope", 404),
        ("GET /connectors/a/tasks/0", 404),
        ("GET /connectors/a/tasks-config", 404),
        ("GET /connector-plugins/X", 404),
        ("PUT /connectors", 405),
        ("DELETE /connectors", 405),
        ("POST /connectors/a", 405),
        ("GET /connectors/a/pause", 405),
        ("HEAD /connectors/a/pause", 405),
        ("DELETE /connectors/a/config", 405),
        ("PUT /connectors/a/tasks/0/restart", 405),
        ("BREW /connectors", 405),
        ("GET //", 400),
        ("GET /connectors//", 400),
        ("GET /connectors/a%2Fb", 400),
        ("DELETE /connectors/a%00", 400),
        ("GET /connectors/%FF", 400),
        ("GET /connectors/%2e%2e/config", 400),
        ("GET /connectors/a%", 400),
    ] {
        let (method, target) = request.split_once(' ').unwrap();
        let answer = server.send(method, target, "", "").await;
        match method {
            "HEAD" => assert_eq!(answer.status, status),
            _ => drop(answer.error(status)),
        }
        assert_eq!(answer.header("allow"), None);
    }
    assert_eq!(server.get("/connectors;a=b").await.status, 200);
    assert_eq!(server.get("/connectors/..").await.json()["name"], "..");
    assert_eq!(server.get("http://elsewhere/connectors/a").await.json()["name"], "a");
}

async fn with_header(server: &Server, request: &str, header: &str, body: &str) -> u16 {
    let (method, target) = request.split_once(' ').unwrap();
    let answer = server.send(method, target, &format!("{header}\r\n"), body).await;
    if answer.status >= 400 {
        answer.error(answer.status);
    }
    answer.status
}

#[tokio::test]
async fn media_types() {
    let server = server().await;
    let body = r#"{"name":"a","config":{}}"#;
    let post = "POST /connectors";
    assert_eq!(with_header(&server, post, "Content-Type: text/plain", body).await, 415);
    assert_eq!(with_header(&server, post, "Content-Type: application/xml", body).await, 415);
    assert_eq!(with_header(&server, post, "X: y", body).await, 415);
    assert_eq!(with_header(&server, post, "Content-Type: bogus", body).await, 400);
    assert_eq!(with_header(&server, post, "Content-Type: application/json; charset=utf-8", body).await, 201);
    assert_eq!(with_header(&server, post, "Content-Type: APPLICATION/JSON", body).await, 201);
    assert_eq!(with_header(&server, post, "Content-Type: application/json\r\nContent-Encoding: gzip", body).await, 415);
    assert_eq!(with_header(&server, "PUT /connectors/a/pause", "Content-Type: text/plain", "x").await, 415);
    assert_eq!(with_header(&server, "PUT /connectors/a/pause", "Content-Length: 0", "").await, 202);
    // before a missing connector is noticed
    assert_eq!(with_header(&server, "GET /connectors/none", "Accept: text/plain", "").await, 406);
    assert_eq!(with_header(&server, "GET /connectors/a", "Accept: text/html, */*;q=0.1", "").await, 200);
}
