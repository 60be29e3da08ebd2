//! Runs recorded vectors: inputs with what Kafka Connect 4.3.0 answered to them.
//!
//! `cargo test vectors -- --nocapture` reads the directory in CONNECT_NODE_VECTORS, or tests/vectors, runs each file with
//! its runner and prints `N vectors, N passed`. A file without a runner fails the test unless tests/vectors/not-yet.txt
//! names it. A new runner is a function and an arm in `runner`.

mod converter;
pub mod notation;
mod validation;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use connect_node::backend::partitioner::{murmur2, partition_for_key};
use connect_node::config::connector_file::{ConnectorFile, InitialState};
use connect_node::config::properties;
use serde_json::Value as Json;

/// Checks one vector; the error says what came instead of what was expected.
type Runner = fn(&Json) -> Result<(), String>;

/// The runner of a file, by its path below the directory of vectors.
fn runner(file: &str) -> Option<Runner> {
    match file {
        "converters/Values.parseString.jsonl" => Some(converter::check_parse_string),
        _ if file.starts_with("converters/") => Some(converter::check),
        "partitioner.jsonl" => Some(check_partition),
        "validate/ConfigDef.parseType.json" => Some(validation::check_types),
        _ if file.starts_with("validate/") => Some(validation::check),
        "propertiesfile.jsonl" => Some(check_properties),
        "standalone-connector-files.jsonl" => Some(check_connector_file),
        _ => None,
    }
}

/// Where a key goes (Java: `Utils.murmur2` and the default partitioner).
fn check_partition(vector: &Json) -> Result<(), String> {
    let (key, expect) = (notation::bytes(&vector["key_b64"]).unwrap_or_default(), &vector["expect"]);
    same(i64::from(murmur2(&key)), expect["murmur2"].as_i64(), "murmur2")?;
    for (count, partition) in expect["partition_for_count"].as_object().into_iter().flatten() {
        let partitions = count.parse().map_err(|error| format!("{count}: {error}"))?;
        same(i64::from(partition_for_key(&key, partitions)), partition.as_i64(), count)?;
    }
    Ok(())
}

fn same(found: i64, expected: Option<i64>, what: &str) -> Result<(), String> {
    if Some(found) == expected { Ok(()) } else { Err(format!("{what}: {found}, expected {expected:?}")) }
}

/// A properties file, decoded as UTF-8 by its reader or as Latin-1 by us.
fn check_properties(vector: &Json) -> Result<(), String> {
    let bytes = notation::bytes(&vector["bytes"]).unwrap_or_default();
    let result = match vector["mode"].as_str() {
        Some("reader") => properties::from_text(std::str::from_utf8(&bytes).map_err(|error| error.to_string())?),
        _ => properties::from_latin1(&bytes),
    };
    let good = match &result {
        Ok(props) => serde_json::to_value(props).is_ok_and(|props| props == vector["expect"]["properties"]),
        Err(_) => vector["expect"]["error"].is_string(),
    };
    if good { Ok(()) } else { Err(format!("gave {result:?}")) }
}

/// A connector on the command line of a standalone worker.
fn check_connector_file(vector: &Json) -> Result<(), String> {
    let result = ConnectorFile::parse(vector["text"].as_str().unwrap_or_default().as_bytes());
    let expect = &vector["expect"];
    let good = match &result {
        Ok(ConnectorFile { name, config, initial_state }) => {
            let initial_state = initial_state.map(|state| match state {
                InitialState::Running => "RUNNING",
                InitialState::Paused => "PAUSED",
                InitialState::Stopped => "STOPPED",
            });
            *expect == serde_json::json!({"name": name, "config": config, "initial_state": initial_state})
        }
        Err(_) => expect["error"].is_string(),
    };
    if good { Ok(()) } else { Err(format!("gave {result:?}")) }
}

#[test]
fn recorded_vectors_give_the_recorded_answers() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    let not_yet = read_not_yet(&project.join("not-yet.txt"));
    let directory = std::env::var_os("CONNECT_NODE_VECTORS").map_or_else(|| project.clone(), PathBuf::from);
    let mut report = Report::default();
    for file in vector_files(&directory) {
        run_file(&directory, &file, &not_yet, &mut report);
    }
    println!("{} vectors, {} passed", report.count, report.passed);
    assert!(report.count > 0, "no vectors in {}", directory.display());
    assert!(report.failures.is_empty(), "{} failures:\n{}", report.failures.len(), report.failures.join("\n"));
}

#[derive(Default)]
struct Report {
    count: usize,
    passed: usize,
    failures: Vec<String>,
}

fn run_file(directory: &Path, file: &str, not_yet: &BTreeSet<String>, report: &mut Report) {
    let Some(check) = runner(file) else {
        if !not_yet.contains(file) {
            report.failures.push(format!("{file}: there is no runner for this file"));
        }
        return;
    };
    let text = fs::read_to_string(directory.join(file)).unwrap();
    let mut all_passed = true;
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}: {text}"));
    let vectors: Vec<Json> = match file.ends_with(".json") {
        true => serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}")),
        false => text.lines().filter(|line| !line.trim().is_empty()).map(read).collect(),
    };
    for vector in vectors {
        let id = vector["id"].as_str().unwrap_or("without id");
        report.count += 1;
        // A panic of one vector must not hide the answers of the others.
        let answer = std::panic::catch_unwind(|| check(&vector)).unwrap_or_else(|_| Err("panicked".to_owned()));
        match answer {
            Ok(()) if not_yet.contains(id) => report.failures.push(format!("{id} passes; delete it from not-yet.txt")),
            Ok(()) => report.passed += 1,
            Err(_) if not_yet.contains(id) || not_yet.contains(file) => all_passed = false,
            Err(reason) => report.failures.push(format!("{id} ({}): {reason}", vector["label"].as_str().unwrap_or(""))),
        }
    }
    if not_yet.contains(file) && all_passed {
        report.failures.push(format!("{file} passes; delete it from not-yet.txt"));
    }
}

fn read_not_yet(path: &Path) -> BTreeSet<String> {
    let text = fs::read_to_string(path).unwrap();
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

/// Paths of all `.jsonl` files, and of `.json` files in folders (those at the top are facts and fixtures), sorted.
fn vector_files(directory: &Path) -> Vec<String> {
    let mut files = Vec::new();
    let mut folders = vec![(directory.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if entry.file_type().unwrap().is_dir() {
                folders.push((entry.path(), format!("{prefix}{name}/")));
            } else if name.ends_with(".jsonl") || (name.ends_with(".json") && !prefix.is_empty()) {
                files.push(format!("{prefix}{name}"));
            }
        }
    }
    files.sort();
    files
}

/// Whether an error is of the kind that a vector expects: `config` and `data` must be met, else any failure will do.
pub fn check_error(expected: &str, error: &connect_api::ConnectError) -> Result<(), String> {
    use connect_api::ErrorKind;
    match (expected, error.kind()) {
        ("config", ErrorKind::Config) | ("data", ErrorKind::Data) => Ok(()),
        ("config" | "data", kind) => Err(format!("expected an error of kind {expected}, got {kind:?}: {error}")),
        _ => Ok(()),
    }
}
