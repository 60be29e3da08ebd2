//! The table beside the definitions that were recorded from Kafka 4.3, and docs/settings.md beside the table.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use connect_api::config_def::DefaultValue;

use super::super::table::TABLE;
use super::*;
use crate::config::client_settings::{OTHER_DEFAULTS, client_names};
use crate::config::connector::restart_definition;

#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    #[serde(rename = "type")]
    java_type: String,
    required: bool,
    default: Option<String>,
    validator: Option<String>,
}

/// Where the definition of a setting that has an effect differs from Java's, and why.
const DIFFERENCES: &[(&str, &str, &str)] = &[
    ("group.id", "default", "that of Kafka's example file; Java demands it"),
    ("config.storage.topic", "default", "that of Kafka's example file; Java demands it"),
    ("offset.storage.topic", "default", "that of Kafka's example file; Java demands it"),
    ("status.storage.topic", "default", "that of Kafka's example file; Java demands it"),
    ("offset.flush.interval.ms", "values", "a negative time means nothing; Java takes it"),
    ("offset.flush.timeout.ms", "values", "a negative time means nothing; Java takes it"),
    ("task.shutdown.graceful.timeout.ms", "values", "a negative time means nothing; Java takes it"),
    (
        "scheduled.rebalance.max.delay.ms",
        "default",
        "what a dead worker ran goes on elsewhere at once; Java waits five minutes",
    ),
    ("rest.advertised.port", "values", "it has to be a port; Java takes any number"),
];

fn recorded() -> BTreeMap<String, Vec<Recorded>> {
    serde_json::from_str(include_str!("../../../../tests/vectors/worker-configdefs.json")).expect("JSON")
}

/// What Java's text of a validator says of single values: those that it takes and those that it refuses.
fn probes(java: &Recorded) -> (Vec<String>, Vec<String>) {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    match (java.validator.as_deref().unwrap_or_default(), &*java.java_type) {
        ("", "LONG" | "INT") => (texts(&["-1", "0", "1000000"]), texts(&["x"])),
        ("", _) => (vec![], vec![]),
        ("int: >= 1, or -1", _) => (texts(&["-1", "1", "3"]), texts(&["0", "-2", "x"])),
        ("list: URLs", _) => (texts(&["http://a:1,http://:2", "http://[::1]:1"]), texts(&["", "a:1", "ftp://a:1"])),
        ("string: response header rules", _) => (vec![], vec![]),
        (range, _) if range.ends_with(",...]") => {
            let min: i64 = range.trim_start_matches('[').split(',').next().unwrap().parse().unwrap();
            (vec![min.to_string()], vec![(min - 1).to_string()])
        }
        (range, _) if range.contains(",...,") => {
            let (min, max) = range.trim_matches(['[', ']']).split_once(",...,").unwrap();
            let below = min.parse::<i64>().unwrap() - 1;
            (texts(&[min, max]), vec![below.to_string()])
        }
        (words, _) => {
            let any_case = words.strip_prefix("(case insensitive) ");
            let listed = any_case.unwrap_or(words).trim_matches(['[', ']']).split(", ");
            let taken = listed.flat_map(|word| match any_case {
                Some(_) => vec![word.to_owned(), word.to_ascii_lowercase()],
                None => vec![word.to_owned()],
            });
            (taken.collect(), texts(&["no such word"]))
        }
    }
}

/// Whether the worker would start, as far as this setting is concerned.
fn takes(name: &str, value: &str) -> bool {
    let mut all = props(SMALL);
    all.insert(name.to_owned(), value.to_owned());
    WorkerConfig::from_props(all).is_ok()
}

#[test]
fn every_setting_of_a_java_worker_is_in_the_table_once() {
    let mut names = BTreeSet::new();
    for setting in TABLE {
        assert!(names.insert(setting.name), "{} is there twice", setting.name);
        assert!(setting.standing == Standing::Honoured || !setting.note.is_empty(), "{} has no reason", setting.name);
    }
    let recorded = recorded();
    assert!(recorded["DistributedConfig"].len() > 100);
    for java in recorded.values().flatten() {
        assert!(table::entry(&java.name).is_some(), "{} is not in the table", java.name);
    }
    // Nobody warns of a setting that Java knows, and everybody of one that it does not.
    let all: Props = recorded.values().flatten().map(|java| (java.name.clone(), String::new())).collect();
    assert_eq!(table::unknown(&all), Vec::<String>::new());
    assert_eq!(table::unknown(&props("offset.flush.intervall.ms=1\nssl.nonsense=1")).len(), 2);
}

#[test]
fn what_has_an_effect_has_javas_type_default_and_values() {
    let definition = definition();
    let mut found = BTreeSet::new();
    for java in recorded().values().flatten() {
        let name = &*java.name;
        let Some(key) = definition.key(name) else {
            let own = TABLE.iter().any(|setting| setting.name == name && setting.standing == Standing::Honoured);
            assert!(!own, "{name} is said to be honoured and has no definition");
            continue;
        };
        assert_eq!(key.setting_type.as_str(), java.java_type, "{name}");
        let default = match &key.default_value {
            DefaultValue::Required => (true, None),
            DefaultValue::Absent => (false, None),
            DefaultValue::Text(text) => (false, Some(text.clone())),
        };
        if default != (java.required, java.default.clone()) {
            found.insert((name.to_owned(), "default"));
        }
        let (taken, refused) = probes(java);
        // Types are checked by their names; these settings are refused for another reason, by name.
        let as_java = |value: &String, java_takes: bool| {
            let not_built = name == "exactly.once.source.support" && value.eq_ignore_ascii_case("enabled");
            takes(name, value) == (java_takes && !not_built)
        };
        if !(taken.iter().all(|value| as_java(value, true)) && refused.iter().all(|value| as_java(value, false))) {
            found.insert((name.to_owned(), "values"));
        }
    }
    let listed: BTreeSet<_> = DIFFERENCES.iter().map(|(name, what, _)| ((*name).to_owned(), *what)).collect();
    assert_eq!(found, listed);
}

/// One line of a table in the document.
fn row(out: &mut String, name: &str, standing: Standing, default: &str, note: &str) {
    let default = if default.is_empty() { String::new() } else { format!("`{default}`") };
    let note = note.replace('|', "\\|");
    writeln!(out, "| `{name}` | {} | {default} | {note} |", standing.word()).unwrap();
}

/// docs/settings.md as it has to be.
fn document() -> String {
    let definition = definition();
    let mut worker = String::new();
    let mut counts = BTreeMap::new();
    let java: BTreeSet<String> = recorded().into_values().flatten().map(|java| java.name).collect();
    for setting in TABLE {
        let default = definition.key(setting.name).and_then(|key| key.default_text()).unwrap_or_default();
        row(&mut worker, setting.name, setting.standing, &default, setting.note);
    }
    for name in &java {
        let (standing, _) = table::entry(name).expect("tested above");
        *counts.entry(standing).or_insert(0) += 1;
    }
    let mut connectors = String::new();
    for key in restart_definition().keys() {
        let values = key.validator.as_ref().map(ToString::to_string).unwrap_or_default();
        let default = key.default_text().unwrap_or_default();
        writeln!(connectors, "| `{}` | `{default}` | {values} | {} |", key.name, key.documentation).unwrap();
    }
    let mut clients = String::new();
    for (heading, kind) in
        [("Producers", ClientKind::Producer), ("Consumers", ClientKind::Consumer), ("All clients", ClientKind::Admin)]
    {
        writeln!(clients, "\n### {heading}\n\n| Setting | | Note |\n| --- | --- | --- |").unwrap();
        for name in client_names(kind) {
            let (standing, note) = client_settings::standing(kind, name).expect("it is in the table");
            let name = if name.ends_with('.') { format!("{name}*") } else { name.to_owned() };
            writeln!(clients, "| `{name}` | {} | {} |", standing.word(), note.replace('|', "\\|")).unwrap();
        }
    }
    let defaults: String = OTHER_DEFAULTS
        .iter()
        .map(|(name, java, here, why)| format!("| `{name}` | {java} | {here} | {why} |\n"))
        .collect();
    let differences: String =
        DIFFERENCES.iter().map(|(name, what, why)| format!("| `{name}` | {what} | {why} |\n")).collect();
    let count = |standing| counts.get(&standing).copied().unwrap_or(0).to_string();
    include_str!("settings.md.in")
        .replace("{worker}", worker.trim_end())
        .replace("{connectors}", connectors.trim_end())
        .replace("{clients}", clients.trim())
        .replace("{defaults}", defaults.trim_end())
        .replace("{differences}", differences.trim_end())
        .replace("{all}", &java.len().to_string())
        .replace("{honoured}", &count(Standing::Honoured))
        .replace("{no effect}", &count(Standing::NoEffect))
        .replace("{not yet}", &count(Standing::NotYet))
        .replace("{refused}", &count(Standing::Refused))
}

/// Write it anew with `CONNECT_NODE_WRITE_DOCS=1 cargo test --lib recorded`.
#[test]
fn the_document_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md");
    let wanted = document();
    if std::env::var_os("CONNECT_NODE_WRITE_DOCS").is_some() {
        std::fs::write(&path, &wanted).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = wanted.lines().zip(found.lines()).find(|(wanted, found)| wanted != found);
    assert!(
        wanted == found,
        "docs/settings.md is not what the table says; set CONNECT_NODE_WRITE_DOCS=1. First: {differs:?}"
    );
}
