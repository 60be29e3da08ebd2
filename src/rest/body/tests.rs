use super::*;

fn config(body: &str) -> BTreeMap<String, Option<String>> {
    connector_config(body.as_bytes()).unwrap().0
}

#[track_caller]
fn refused(body: impl AsRef<[u8]>, part: &str) {
    let error = create_request(body.as_ref()).expect_err("should be refused");
    assert_eq!(error.status, StatusCode::BAD_REQUEST);
    assert!(error.message.contains(part), "{}", error.message);
}

#[test]
fn scalars_keep_their_spelling() {
    let config = config(
        r#"{"a": "x", "b": 1.50, "c": 1e3, "d": true, "e": null, "f": -0, "g": 123456789012345678901234567890,
            "h": "\u00fc\n\ud83e\udd80", "i": " 1 ", "": "", "a": "last"}"#,
    );
    let expected = [
        ("", Some("")),
        ("a", Some("last")),
        ("b", Some("1.50")),
        ("c", Some("1e3")),
        ("d", Some("true")),
        ("e", None),
        ("f", Some("-0")),
        ("g", Some("123456789012345678901234567890")),
        ("h", Some("\u{fc}\n\u{1f980}")),
        ("i", Some(" 1 ")),
    ];
    assert_eq!(config, expected.map(|(k, v)| (k.to_owned(), v.map(str::to_owned))).into());
}

#[test]
fn create_request_has_three_fields() {
    let request = create_request(br#" {"initial_state":"paused","config":{},"name":" a "} "#).unwrap();
    assert_eq!(request.name.as_deref(), Some(" a "));
    assert_eq!(request.initial_state.as_deref(), Some("paused"));
    let request = create_request(br#"{"name":null,"config":{"a":1},"initial_state":null}"#).unwrap();
    assert_eq!((request.name, request.initial_state), (None, None));
}

#[test]
fn refusals_say_what_and_where() {
    refused("", "the body is empty");
    refused(" \n", "the body is empty");
    refused("null", "invalid type: null");
    refused("[]", "is a JSON array");
    refused(r#"["a", {}]"#, "is a JSON array");
    refused("garbage", "not valid JSON: expected value at line 1 column 1");
    refused("{\"name\": \"a\", ", "EOF while parsing a value at line 1 column");
    refused("{\n \"name\": \"a\",\n}", "trailing comma at line 3 column 1");
    refused("{}", "missing field `config`");
    refused(r#"{"name":"a"}"#, "missing field `config`");
    refused(r#"{"name":"a","config":null}"#, "invalid type: null, expected an object with settings by name at line 1");
    refused(r#"{"name":"a","config":"x"}"#, "expected an object with settings by name at line 1 column 24");
    refused(r#"{"name":1,"config":{}}"#, "invalid type: integer `1`, expected a string at line 1 column 9");
    refused(r#"{"name":"a","config":{},"initialState":"PAUSED"}"#, "unknown field `initialState`");
    refused(r#"{"name":"a","config":{},"name":"b"}"#, "duplicate field `name`");
    refused(r#"{"name":"a","config":{}} x"#, "trailing characters at line 1 column 26");
    refused("{\"name\":\"a\",\n\"config\":{\"x\":{\"y\":1}}}", "the setting \"x\" is an object");
    refused("{\"name\":\"a\",\n\"config\":{\"x\":{\"y\":1}}}", "at line 2 column");
    refused(r#"{"name":"a","config":{"x":[1]}}"#, "the setting \"x\" is an array");
    refused(r#"{"name":"a","config":{"x":"\ud800"}}"#, "the setting \"x\" cannot be read");
    refused(r#"{"name":"a","config":{"x":01}}"#, "not valid JSON: invalid number at line 1");
    refused(r#"{"name":"a","config":{"x":NaN}}"#, "not valid JSON: expected value at line 1");
    refused("{\"name\":\"a\u{1}\",\"config\":{}}", "control character");
}

#[test]
fn refusals_name_foreign_encodings() {
    refused(b"{\n\"name\":\"\xff\"}", "not valid UTF-8 at line 2 column 9");
    refused(b"\xef\xbb\xbf{}", "byte order mark");
    refused(b"\xff\xfe{\0}\0", "UTF-16");
    refused(b"{\0}\0", "UTF-16");
    refused(b"\0{\0}", "UTF-16");
    refused(b"\x1f\x8b\x08\0\0", "gzip");
}

#[test]
fn deep_json_neither_overflows_nor_takes_long() {
    let depth = 400_000;
    refused("[".repeat(depth), "is a JSON array");
    refused(r#"{"config":"#.repeat(depth), "EOF while parsing");
    refused(format!(r#"{{"config":{{"x":{}}}}}"#, "[".repeat(depth)), "not valid JSON");
    refused(format!(r#"{{"config":{{"x":{}{}}}}}"#, "[".repeat(depth), "]".repeat(depth)), "is an array");
    refused(format!(r#"{{"name":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)), "invalid type: sequence");
    refused(format!(r#"{{"other":{}{}}}"#, "[".repeat(depth), "]".repeat(depth)), "unknown field `other`");
}

/// A body without a declared length is as long as its client likes.
#[tokio::test]
async fn a_body_in_chunks_has_a_largest_size() {
    let limits = Limits { body_bytes: 10, discarded_bytes: 100, ..Limits::default() };
    for (chunks, fits) in [(2, true), (3, false)] {
        let body = futures_util::stream::iter((0..chunks).map(|_| Ok::<_, warp::Error>(Bytes::from_static(b"12345"))));
        match read(body, &HeaderMap::new(), &limits).await {
            Ok(body) => assert!(fits && body.len() == 10, "{body:?}"),
            Err(error) => assert!(!fits && error.status == StatusCode::PAYLOAD_TOO_LARGE, "{}", error.message),
        }
    }
}

proptest::proptest! {
    #[test]
    fn no_body_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), json in "[\\[\\]{}\":,a0-9.eE\\\\u-]{0,60}") {
        drop(create_request(&bytes));
        drop(create_request(json.as_bytes()));
        drop(connector_config(format!("{{\"a\":{json}}}").as_bytes()));
    }

    #[test]
    fn settings_arrive_as_they_were_sent(settings in proptest::collection::btree_map(".*", proptest::option::of(".*"), 0..8)) {
        let body = serde_json::to_vec(&settings).unwrap();
        proptest::prop_assert_eq!(connector_config(&body).unwrap().0, settings);
    }
}
