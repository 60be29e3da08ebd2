//! That the rules bite: snippets that break each rule once, and neighbours of them that do not.

use super::source::Source;
use super::{TextFile, Violation, blanks, missing_files, normal, rules, unexplained_dependencies};

/// Checks one snippet as the file `path` and gives the broken rules as `line rule`.
fn broken(path: &str, text: &str) -> Vec<String> {
    rules::check(&[Source::parse(path, &format!("{text}\n"))]).iter().map(short).collect()
}

fn short(violation: &Violation) -> String {
    format!("{} {}", violation.line, violation.rule)
}

fn check(path: &str, text: &str, expected: &[&str]) {
    assert_eq!(broken(path, text), expected, "{path}:\n{text}");
}

#[test]
fn arrows_that_are_not_drawn_are_found() {
    let arrow: &[&str] = &["1 forbidden arrow"];
    check("src/cluster/register.rs", "use crate::storage::StatusStore;", arrow);
    check("src/cluster/register.rs", "use connect_api::Props;", arrow);
    check("src/storage/fold.rs", "use crate::cluster::{ControlPlane, Member};", arrow);
    check("src/storage/fold.rs", "use crate::cluster::{Incarnation, Member};", &[]);
    check("src/rest/routes.rs", "fn f() { crate::storage::open() }", arrow);
    check("src/rest/routes.rs", "use super::super::storage::Log;", arrow);
    check("src/rest/routes.rs", "use super::error::Error;", &[]);
    check("src/rest/mod.rs", "use super::backend::Ack;", arrow);
    check("src/rest/mod.rs", "mod inner { use super::error::Error; }", &[]);
    check("src/rest/mod.rs", "mod inner { use super::super::backend::Ack; }", arrow);
    check("src/connectors/file.rs", "use crate::transforms::Cast;", arrow);
    check("src/connectors/file.rs", "pub(crate) use crate::connectors::x;", &[]);
    check(
        "src/pipeline/sink.rs",
        "use crate::{\n    storage::OffsetStore,\n    actors::{self, handle::X},\n};",
        &["3 forbidden arrow", "3 forbidden arrow"],
    );
    check("src/main.rs", "use crate::{rest::serve, backend::open};", &[]);
    check("src/util/text.rs", "fn f() {}", &["1 unknown room"]);
}

#[test]
fn arrows_in_comments_and_literals_are_none() {
    check("src/cluster/a.rs", "// crate::rest::x\n/* use crate::rest; */\n/// [`crate::rest`]\nfn f() {}", &[]);
    check(
        "src/cluster/a.rs",
        "const A: &str = \"\\\"use crate::rest;\"; const B: &str = r#\"\"crate::rest::x\"#;",
        &[],
    );
    check("src/cluster/a.rs", "fn f<'a>(x: &'a str) -> char { '\"' } use crate::rest::x;", &["1 forbidden arrow"]);
}

#[test]
fn only_main_and_tests_name_a_backend() {
    let arrow: &[&str] = &["1 forbidden arrow"];
    check("src/pipeline/sink.rs", "use crate::backend::RecordReader;", &[]);
    check("src/pipeline/sink.rs", "use crate::backend::kafka::Reader;", arrow);
    check("src/storage/topic_log.rs", "use crate::backend::memory;", arrow);
    check("src/storage/tests.rs", "use crate::backend::memory;", &[]);
    check("src/storage/topic_log.rs", "#[cfg(test)]\nmod tests {\n    use crate::backend::memory;\n}", &[]);
    check(
        "src/storage/topic_log.rs",
        "#[cfg(test)]\nmod tests {}\nuse crate::backend::memory;",
        &["3 forbidden arrow"],
    );
}

#[test]
fn crates_stay_in_their_rooms() {
    let wrong: &[&str] = &["1 crate in the wrong room"];
    check("src/rest/routes.rs", "use warp::Filter;", &[]);
    check("src/actors/herder.rs", "use warp::Filter;", wrong);
    check("src/storage/topic_log.rs", "use actix::prelude::*;", wrong);
    check("src/main.rs", "#[actix::main] async fn main() {}", &[]);
    check("src/pipeline/pump.rs", "fn f() -> rdkafka::error::KafkaError { g() }", wrong);
    check("src/backend/kafka/writer.rs", "use rdkafka::producer::Producer;", &[]);
    check("src/backend/memory/mod.rs", "use rdkafka::producer::Producer;", wrong);
    check("src/backend/memory/mod.rs", "fn f() { let rdkafka = 1; self::rdkafka::x(); }", &[]);
    check("connect-api/src/sink.rs", "use tokio::sync::watch;", wrong);
    check("connect-api/src/sink.rs", "#[cfg(test)]\nmod tests { use tokio::sync::watch; }", &[]);
}

#[test]
fn calls_that_crash_are_found() {
    check("src/backend/kafka/a.rs", "fn f() { unsafe { rd::rd_kafka_ListOffsets(a, b) } }", &["1 forbidden call"]);
    check("src/backend/kafka/a.rs", "/// Not by `rd_kafka_ListOffsets`.\nfn f() {}", &[]);
    check("src/backend/kafka/a.rs", "fn f() { rd::rd_kafka_ListOffsets_result_infos(a) }", &[]);
}

#[test]
fn length_is_bounded() {
    let function = |lines: usize| format!("fn long() {{\n{}}}", "    g();\n".repeat(lines - 2));
    check("src/json/a.rs", &function(70), &[]);
    check("src/json/a.rs", &function(71), &["1 function too long"]);
    check("src/json/a.rs", &"// a\n".repeat(799), &[]);
    check("src/json/a.rs", &"// a\n".repeat(800), &["1 file too long"]);
    check("src/json/a.rs", "trait T {\n    fn f(&self, x: [u8; 3]);\n}", &[]);
}

#[test]
fn left_overs_are_found() {
    check("src/json/a.rs", "fn f() { todo!() }", &["1 unfinished"]);
    check("src/json/a.rs", "fn f() { unimplemented ! (\"later\") }", &["1 unfinished"]);
    check("src/json/a.rs", &format!("// {}: later", ["TO", "DO"].concat()), &["1 unfinished"]);
    check("src/json/a.rs", &format!("/// {}(me) later", ["FIX", "ME"].concat()), &["1 unfinished"]);
    check("src/json/a.rs", "fn f() { \"todo!()\" }", &[]);
    check("tests/it/a.rs", "#[test]\n#[ignore = \"flaky\"]\nfn f() {}", &["2 ignored test"]);
}

#[test]
fn an_unwrap_needs_a_reason() {
    let missing: &[&str] = &["1 unexplained unwrap"];
    check("src/json/a.rs", "fn f() { g().unwrap() }", missing);
    check("src/json/a.rs", "fn f() { g().expect(\"// no comment\") }", missing);
    check("src/json/a.rs", "fn f() { g().unwrap().h().expect(\"h is total on what g gives\") }", missing);
    check(
        "src/json/a.rs",
        "fn f() {\n    g().expect(\n        \"g is total on constants such as this\",\n    )\n}",
        &[],
    );
    check("src/json/a.rs", "fn f() { g().unwrap() } // g of a constant", &[]);
    check(
        "src/json/a.rs",
        "fn f() {\n    // The lock is never poisoned: nothing panics under it.\n    g().unwrap()\n}",
        &[],
    );
    check(
        "src/json/a.rs",
        "fn f() {\n    // Cannot fail: checked above.\n    g()\n        .h()\n        .unwrap()\n}",
        &[],
    );
    check("src/json/a.rs", "fn f() {\n    // About h alone.\n    h();\n    g().unwrap()\n}", &["4 unexplained unwrap"]);
    check("src/json/a.rs", "/// What it does.\nfn f() { g().unwrap() }", &["2 unexplained unwrap"]);
    check("src/json/a.rs", "fn f() { g().unwrap_or(1) }", &[]);
    check("src/json/tests.rs", "fn f() { g().unwrap() }", &[]);
    check("src/json/a.rs", "#[cfg(test)]\nmod tests {\n    fn f() { g().unwrap() }\n}", &[]);
}

#[test]
fn modules_declared_for_tests_are_tests() {
    let declares = Source::parse("src/backend/mod.rs", "#[cfg(test)]\nmod contract;\n");
    let suite = |path| Source::parse(path, "fn f() { g().unwrap() }\n");
    let found = rules::check(&[declares, suite("src/backend/contract.rs"), suite("src/backend/record.rs")]);
    assert_eq!(found.iter().map(|violation| violation.path.as_str()).collect::<Vec<_>>(), ["src/backend/record.rs"]);
}

#[test]
fn sleeping_tests_are_found() {
    check("tests/it/a.rs", "async fn f() { tokio::time::sleep(WAIT).await }", &["1 sleep in a test"]);
    check("src/json/tests.rs", "fn f() { std::thread::sleep(WAIT) }", &["1 sleep in a test"]);
    check("src/actors/pump.rs", "async fn f() { tokio::time::sleep(BACK_OFF).await }", &[]);
}

fn file(path: &str, text: &str) -> TextFile {
    TextFile { path: path.into(), text: text.into() }
}

#[test]
fn blanks_and_dependencies_are_checked() {
    let found = blanks(&file("a.md", "a\tb\nc \nd"));
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), ["1 tab", "2 trailing blank", "3 no end of line"]);

    let text =
        "[package]\nname = \"x\"\n[dependencies]\n# Why.\na = \"1\"\nb.workspace = true\n[profile.dev]\ndebug = 1\n";
    let found = unexplained_dependencies(&file("Cargo.toml", text));
    assert_eq!(found.iter().map(short).collect::<Vec<_>>(), ["6 unexplained dependency"]);
    assert!(found[0].to_string().starts_with("Cargo.toml:6: unexplained dependency: `b`: "));
}

#[test]
fn documents_name_files_that_exist() {
    let text = "[a](../src/a.rs) [b](b.md#part) [c](https://x.org/c) [d](#part) `src/e.rs` `src/*.rs` `f.rs`\n```\n`src/g.rs`\n```\n";
    let found = missing_files(&file("docs/x.md", text), |path| path == "src/a.rs");
    let targets: Vec<&str> = found.iter().map(|violation| violation.what.split('`').nth(1).unwrap()).collect();
    assert_eq!(targets, ["docs/b.md", "src/e.rs"]);
    assert_eq!(normal("docs/./a/../../b"), "b");
}
