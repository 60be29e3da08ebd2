use serde_json::json;

use super::*;

fn expect(value: Value) -> Expect {
    serde_json::from_value(value).unwrap()
}

fn reply(status: u16, body: Value) -> Reply {
    let content_type = Some("application/json".to_owned());
    Reply { status, content_type, body: Body::Json(body), ..Reply::default() }
}

#[track_caller]
fn check(quirk: bool, expected: Value, actual: Reply, found: &[&str]) {
    assert_eq!(compare(quirk, Mode::Exact, &expect(expected), &actual, false), found);
}

#[test]
fn quirks_may_have_another_error_code_and_nothing_else() {
    let expected = json!({"status": 500, "kind": "json", "body": {"error_code": 500, "message": "<text>"}});
    let actual = |status: u16| reply(status, json!({"error_code": status, "message": "<text>"}));
    check(true, expected.clone(), actual(500), &[]);
    check(true, expected.clone(), actual(400), &[]);
    check(
        false,
        expected.clone(),
        actual(400),
        &["status: expected 500, got 400 {\"error_code\":400,\"message\":\"<text>\"}"],
    );
    check(true, expected.clone(), reply(200, json!([])), &["status: expected 500, got 200 []"]);
    check(true, expected, reply(400, json!({"error_code": 400})), &["body.message is missing, expected \"<text>\""]);
    let page = json!({"status": 400, "kind": "other", "content_type": "text/html"});
    check(false, page, actual(400), &[]);
    let empty = json!({"status": 400, "kind": "empty"});
    check(true, empty.clone(), actual(400), &[]);
    check(false, empty, actual(400), &["body: expected empty, got json"]);
}

#[test]
fn headers_are_compared() {
    let expected = json!({"status": 201, "kind": "json", "content_type": "application/json", "body": {},
                          "location": "/connectors/a"});
    let mut actual = reply(201, json!({}));
    actual.location = Some("/connectors/a".into());
    check(false, expected.clone(), actual.clone(), &[]);
    actual.location = Some("/connectors/b".into());
    actual.content_type = Some("text/plain".into());
    let found = [
        "content type: expected application/json, got Some(\"text/plain\")",
        "Location: expected Some(\"/connectors/a\"), got Some(\"/connectors/b\")",
    ];
    check(false, expected, actual, &found);
    let mut actual = Reply { status: 204, ..Reply::default() };
    check(false, json!({"status": 204, "kind": "empty"}), actual.clone(), &[]);
    actual.content_type = Some("text/html".into());
    let found = ["content type: expected none or JSON, got Some(\"text/html\")"];
    check(false, json!({"status": 204, "kind": "empty"}), actual, &found);

    let expected =
        expect(json!({"status": 200, "kind": "other", "content_type": "text/plain", "allow": ["PUT", "GET"]}));
    let mut actual = Reply {
        status: 200,
        content_type: Some("text/plain".into()),
        body: Body::Other(String::new()),
        ..Reply::default()
    };
    actual.allow = Some("GET, PUT".into());
    assert!(compare(false, Mode::Exact, &expected, &actual, true).is_empty());
    actual.allow = Some("GET".into());
    assert_eq!(
        compare(false, Mode::Exact, &expected, &actual, true),
        [r#"Allow: expected ["GET", "PUT"], got ["GET"]"#]
    );
}

#[test]
fn conditions_pick_values_by_path() {
    let body = json!({"tasks": [{"state": "RUNNING"}, {"state": "FAILED"}], "x": {"y": 1}, "l": ["a"]});
    let is = |path, operation, operand| holds(&pick(&body, path), operation, &operand);
    assert!(is("x.y", Operation::Eq, json!(1)) && !is("x.z", Operation::Eq, json!(1)));
    assert!(
        !is("tasks.*.state", Operation::Eq, json!("RUNNING")) && is("tasks.0.state", Operation::Eq, json!("RUNNING"))
    );
    assert!(
        is("tasks", Operation::Len, json!(2))
            && !is("tasks.*", Operation::Len, json!(2))
            && is("", Operation::Len, json!(3))
    );
    assert!(
        is("l", Operation::Has, json!("a"))
            && is("x", Operation::Has, json!("y"))
            && !is("l", Operation::Has, json!("b"))
    );
    assert!(!is("none.*.state", Operation::Eq, json!("RUNNING")) && !is("tasks.7", Operation::Eq, json!(null)));
}

#[test]
fn small_parts() {
    assert_eq!(path_of("http://h:1/connectors/a%20b?x#y"), "/connectors/a%20b");
    assert_eq!((path_of("/a/b"), path_of("http://h")), ("/a/b", ""));
    let mut names = json!(["p-a", "q", 1]);
    keep_prefix(&mut names, "p");
    let mut map = json!({"p-a": 1, "q": 2});
    keep_prefix(&mut map, "p");
    assert_eq!((names, map), (json!(["p-a"]), json!({"p-a": 1})));
}
