//! The bytes of our own records and fields. Others of this format run beside us: a change here needs a new version number.

use super::super::config_records::{Commit, ConfigRecord, Fingerprint, RestartRequest, SessionKey, TargetState};
use super::super::plan;
use super::super::status_records::{RestartStatus, StatusRecord, StatusTopicRecord, UnitId, UnitState};
use super::*;
use crate::cluster::{Incarnation, MemberState, NO_SET, Nonce, RegisterFields};

/// The record has these bytes, and they are read as that record.
fn check(record: ConfigRecord, key: &str, value: Option<&str>) {
    let (written_key, written) = (record.key(), record.value());
    assert_eq!(written_key, key);
    assert_eq!(written.as_deref(), value.map(str::as_bytes), "{key}");
    assert_eq!(ConfigRecord::decode(0, Some(&written_key), written.as_ref()), Ok(record));
}

fn joined() -> MemberRecord {
    MemberRecord {
        state: MemberState::Joined,
        nonce: Nonce(0xfedc_ba98_7654_3210),
        incarnation: None,
        group_id: "workers".into(),
        rest_url: "http://h:8083/".into(),
        gossip_address: "h:7946".into(),
        settled: false,
        fence_ms: None,
        node_version: "0.1.0".into(),
    }
}

#[test]
fn own_records_of_the_config_topic() {
    check(
        ConfigRecord::Member("h:8083".into(), Some(joined())),
        "worker-h:8083",
        Some(
            r#"{"v":1,"state":"joined","nonce":"fedcba9876543210","group_id":"workers","rest_url":"http://h:8083/","gossip_address":"h:7946","settled":false,"node_version":"0.1.0"}"#,
        ),
    );
    let draining = MemberRecord { state: MemberState::Draining, incarnation: Some(Incarnation(17)), ..joined() };
    check(
        ConfigRecord::Member("h:8083".into(), Some(draining)),
        "worker-h:8083",
        Some(
            r#"{"v":1,"state":"draining","nonce":"fedcba9876543210","incarnation":17,"group_id":"workers","rest_url":"http://h:8083/","gossip_address":"h:7946","settled":false,"node_version":"0.1.0"}"#,
        ),
    );
    check(plan::member_gone("h:8083"), "worker-h:8083", None);
    check(ConfigRecord::Turn("h:8083".into(), true), "turn-h:8083", Some(r#"{"v":1}"#));
    check(ConfigRecord::Turn("h:8083".into(), false), "turn-h:8083", None);
    let commit = Commit { tasks: 3, config: Some(Fingerprint(0xab)) };
    check(
        ConfigRecord::Commit("a".into(), commit),
        "commit-a",
        Some(r#"{"tasks":3,"v":1,"config":"00000000000000ab"}"#),
    );
    let request = RestartRequest { include_tasks: false, only_failed: true, task: Some(2) };
    check(
        plan::restart("a", request),
        "restart-connector-a",
        Some(r#"{"include-tasks":false,"only-failed":true,"v":1,"task":2}"#),
    );
}

#[test]
fn records_of_java() {
    let null = RawConfig::from([("a".into(), None), ("b".into(), Some("\u{1f}\u{1f600}/".into()))]);
    check(
        ConfigRecord::Task("näme-1 x".into(), 12, null),
        "task-näme-1 x-12",
        Some(r#"{"properties":{"a":null,"b":"\u001F\uD83D\uDE00/"}}"#),
    );
    check(
        ConfigRecord::TargetState("a".into(), Some(TargetState::Stopped)),
        "target-state-a",
        Some(r#"{"state":"PAUSED","state.v2":"STOPPED"}"#),
    );
    check(ConfigRecord::TaskCount("a".into(), 2), "tasks-fencing-a", Some(r#"{"task-count":2}"#));
    check(ConfigRecord::LoggerLevel("a.b".into(), "DEBUG".into()), "logger-cluster-a.b", Some(r#"{"level":"DEBUG"}"#));
    let key = SessionKey { key: "c2VjcmV0".into(), algorithm: "HmacSHA256".into(), creation_timestamp: 1 };
    assert!(!format!("{key:?}").contains("c2VjcmV0"));
    check(
        ConfigRecord::SessionKey(key),
        "session-key",
        Some(r#"{"key":"c2VjcmV0","algorithm":"HmacSHA256","creation-timestamp":1}"#),
    );
}

#[test]
fn a_later_version_may_add_fields() {
    let key = "worker-w".into();
    let value = r#"{"v":2,"state":"joined","nonce":"1","rest_url":"r","zone":"b"}"#.into();
    let record = ConfigRecord::decode(0, Some(&key), Some(&value)).unwrap();
    assert!(matches!(record, ConfigRecord::Member(id, Some(member)) if id == "w" && member.nonce == Nonce(1)));
}

/// Whoever has such a state holds its units and gets no other ones.
#[test]
fn a_later_version_may_add_states_of_a_member() {
    let key = "worker-w".into();
    let value = r#"{"v":2,"state":"resting","nonce":"1","incarnation":17,"rest_url":"r"}"#.into();
    let record = ConfigRecord::decode(0, Some(&key), Some(&value)).unwrap();
    let ConfigRecord::Member(_, Some(member)) = record else { panic!("{record:?}") };
    assert_eq!((member.state, member.incarnation), (MemberState::Draining, Some(Incarnation(17))));
}

/// The register counts: to pass over it is to take a unit for free that somebody runs.
#[test]
fn a_later_version_may_add_states_of_a_unit() {
    let key = "status-task-a-0".into();
    let value =
        r#"{"v":2,"state":"WARMING","generation":0,"incarnation":17,"claim":3,"held":true,"at":40,"set":5}"#.into();
    let record = StatusTopicRecord::decode(0, Some(&key), Some(&value)).unwrap();
    let StatusTopicRecord::Status(_, Some(status)) = record else { panic!("{record:?}") };
    let register = RegisterFields { incarnation: Incarnation(17), claim: 3, held: true, at: 40, set: 5 };
    assert_eq!((status.state, status.register), (UnitState::Unassigned, Some(register)));
}

/// What the restart policy makes of a unit, behind Java's fields and ours; one that cannot be read is none, and spoils nothing.
#[test]
fn a_restart_in_a_status() {
    let register = RegisterFields { incarnation: Incarnation(17), claim: 3, held: true, at: 40, set: NO_SET };
    let of = |restart| {
        let (state, worker_id) = (UnitState::Failed, "h:8083".to_owned());
        let register = Some(register);
        let status = StatusRecord { state, trace: None, worker_id, generation: 0, version: None, register, restart };
        StatusTopicRecord::Status(UnitId::Connector("a".into()), Some(status))
    };
    let waits =
        RestartStatus { breaker_open: false, attempt: 2, since_ms: 5, next_at_ms: Some(9), reason: "it broke".into() };
    let open = RestartStatus { breaker_open: true, next_at_ms: None, ..waits.clone() };
    let key = of(None).key();
    for (restart, expected) in [
        (&waits, r#""restart":{"breaker":"closed","attempt":2,"since_ms":5,"next_at_ms":9,"reason":"it broke"}}"#),
        (&open, r#""restart":{"breaker":"open","attempt":2,"since_ms":5,"next_at_ms":null,"reason":"it broke"}}"#),
    ] {
        let record = of(Some(restart.clone()));
        let value = record.value().unwrap();
        let text = std::str::from_utf8(&value).unwrap().to_owned();
        assert!(text.ends_with(&format!(r#""set":-1,{expected}"#)), "{text}");
        assert_eq!(StatusTopicRecord::decode(0, Some(&key), Some(&value)), Ok(record));
        for odd in ["true", "{}", r#"{"breaker":"open","attempt":-1,"since_ms":5,"reason":"x"}"#] {
            let start = text.find(r#","restart":"#).unwrap();
            let value = format!(r#"{},"restart":{odd}}}"#, &text[..start]).into();
            assert_eq!(StatusTopicRecord::decode(0, Some(&key), Some(&value)), Ok(of(None)), "{odd}");
        }
    }
}

#[test]
fn own_fields_of_a_status() {
    let register = RegisterFields { incarnation: Incarnation(17), claim: 3, held: true, at: 40, set: NO_SET };
    let status = StatusRecord {
        state: UnitState::Running,
        trace: None,
        worker_id: "h:8083".into(),
        generation: 0,
        version: Some("1".into()),
        register: Some(register),
        restart: None,
    };
    let record = StatusTopicRecord::Status(UnitId::Task("a-b".into(), 0), Some(status));
    let (key, value) = (record.key(), record.value());
    assert_eq!(key, "status-task-a-b-0");
    let expected = r#"{"state":"RUNNING","trace":null,"worker_id":"h:8083","generation":0,"version":"1","v":1,"incarnation":17,"claim":3,"held":true,"at":40,"set":-1}"#;
    assert_eq!(value.as_deref(), Some(expected.as_bytes()));
    assert_eq!(StatusTopicRecord::decode(0, Some(&key), value.as_ref()), Ok(record));
}

#[test]
fn odd_statuses_are_errors() {
    for (key, value) in [
        ("status-task-a", "{}"),
        ("status-topic-t", "{}"),
        ("status-topic-t:other-a", "{}"),
        ("status-connector-a", r#"{"state":"NEWSTATE","worker_id":"a","generation":1}"#),
        ("status-connector-a", r#"{"state":"RUNNING","worker_id":"a"}"#),
        ("status-connector-a", r#"{"state":"RUNNING","generation":1.0}"#),
        ("status-connector-a", r#"{"state":"RUNNING","generation":1,"incarnation":1}"#),
        ("status-connector-a", r#"{"state":"RUNNING","generation":1,"incarnation":1,"claim":-1,"held":true,"at":1}"#),
        ("unknown", "{}"),
    ] {
        let (key, value) = (key.into(), value.into());
        let error = StatusTopicRecord::decode(5, Some(&key), Some(&value)).unwrap_err();
        assert_eq!(error.offset, 5, "{error}");
    }
}

#[test]
fn the_fingerprint_tells_configurations_apart() {
    let of = |pairs: &[(&str, Option<&str>)]| {
        Fingerprint::of(&pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect())
    };
    let all = [
        of(&[]),
        of(&[("a", None)]),
        of(&[("a", Some(""))]),
        of(&[("a", Some("b"))]),
        of(&[("ab", Some(""))]),
        of(&[("a", Some("b")), ("c", None)]),
    ];
    let distinct: std::collections::HashSet<_> = all.iter().collect();
    assert_eq!(distinct.len(), all.len());
    // It stands in the topic: it may never change.
    assert_eq!(of(&[("a", Some("b"))]), Fingerprint(0x6693_466f_1f46_1e3b));
}
