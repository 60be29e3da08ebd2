//! What happens when a guard is taken away: a named test fails. A rule that can be removed without a test noticing is not tested.
//!
//! [`table::GUARDS`] lists the guards that stand between a user and lost, doubled or leaked data, each with the edit that removes it and the
//! test that notices. That every edit still fits the source, and every test exists, is checked each time. The removal itself builds the
//! program once for each guard, which takes minutes, so it is asked for by name:
//!
//! ```sh
//! cargo test --test it guards::each_removed_guard_is_noticed -- --ignored --nocapture
//! ```
//!
//! `CONNECT_NODE_GUARD` runs only those whose name contains its value.

mod table;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use table::GUARDS;

/// A guard, and how to see that it is needed.
struct Guard {
    /// What it guarantees.
    name: &'static str,
    /// Where it stands.
    file: &'static str,
    /// Its source; occurs there once.
    guard: &'static str,
    /// The source without it.
    removed: &'static str,
    /// The test of the library that fails without it, by its path.
    test: &'static str,
}

/// How long building and running one test may take.
const LIMIT_SECONDS: &str = "400";

fn root() -> PathBuf {
    PathBuf::from(std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests"))
}

#[test]
fn every_guard_is_where_the_table_says_and_its_test_exists() {
    let mut tests = String::new();
    for folder in ["src", "tests/it"] {
        read_sources(&root().join(folder), &mut tests);
    }
    let mut wrong = Vec::new();
    for Guard { name, file, guard, removed, test } in GUARDS {
        let source = fs::read_to_string(root().join(file)).unwrap_or_default();
        let found = source.matches(guard).count();
        if found != 1 {
            wrong.push(format!("{name}: {file} holds its source {found} times, not once"));
        }
        if guard == removed {
            wrong.push(format!("{name}: nothing is removed"));
        }
        let function = test.rsplit("::").next().unwrap_or_default();
        if !tests.contains(&format!("fn {function}(")) && !tests.contains(&format!("{function},")) {
            wrong.push(format!("{name}: there is no test {function}"));
        }
    }
    assert!(wrong.is_empty(), "tests/it/guards/table.rs is out of date:\n{}", wrong.join("\n"));
}

fn read_sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).expect("the folder is part of the repository") {
        let path = entry.expect("it was just listed").path();
        if path.is_dir() {
            read_sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(&path).expect("a source file is UTF-8"));
        }
    }
}

#[test]
#[ignore = "builds the program once for each guard"]
fn each_removed_guard_is_noticed() {
    let wanted = std::env::var("CONNECT_NODE_GUARD").unwrap_or_default();
    let copy = copy_of_the_tree();
    let mut unnoticed = Vec::new();
    for guard in GUARDS.iter().filter(|guard| guard.name.contains(&wanted)) {
        let place = copy.join(guard.file);
        let source = fs::read_to_string(&place).expect("it was just copied");
        fs::write(&place, source.replacen(guard.guard, guard.removed, 1)).expect("the copy is ours");
        let verdict = verdict(&run(&copy, guard.test), guard.test);
        fs::write(&place, source).expect("the copy is ours");
        println!("{} | {} | {}", guard.name, guard.test, verdict.as_deref().unwrap_or("noticed"));
        unnoticed.extend(verdict.map(|why| format!("{}: {why}", guard.name)));
    }
    assert!(unnoticed.is_empty(), "{}", unnoticed.join("\n"));
}

/// A copy of what git knows, so that nothing is edited in place.
fn copy_of_the_tree() -> PathBuf {
    let copy = root().join("target/guards/tree");
    fs::create_dir_all(&copy).expect("target is writable");
    let script =
        "git ls-files -z | tar --null --ignore-failed-read --create --files-from=- | tar --extract --directory \"$0\"";
    let done = Command::new("sh").args(["-c", script]).arg(&copy).current_dir(root()).status();
    assert!(done.is_ok_and(|status| status.success()), "the tree cannot be copied to {}", copy.display());
    copy
}

/// Builds and runs the test. One that hangs without its guard is ended with all that it has started.
fn run(copy: &Path, test: &str) -> Output {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new("timeout");
    command.args(["--kill-after=5", LIMIT_SECONDS]).arg(cargo).args(["test", "--lib"]);
    command.args(["--", "--exact", test]);
    command.current_dir(copy).env("CARGO_TARGET_DIR", root().join("target/guards/build"));
    command.env_remove("CARGO_MANIFEST_DIR").output().expect("timeout is part of every system")
}

/// What is wrong, if the test did not fail by itself.
fn verdict(run: &Output, test: &str) -> Option<String> {
    let said = String::from_utf8_lossy(&run.stdout);
    if said.contains(&format!("test {test} ... FAILED")) {
        return None;
    }
    let why = if run.status.code() == Some(124) {
        format!("its test does not end within {LIMIT_SECONDS} s without it")
    } else if said.contains("1 passed") {
        "its test passes without it".to_owned()
    } else if said.contains("0 passed") {
        "its test was not found".to_owned()
    } else {
        let complaint = String::from_utf8_lossy(&run.stderr).into_owned();
        let complaint = complaint.lines().find(|line| line.starts_with("error")).unwrap_or("no result").to_owned();
        format!("the test did not run: {complaint}")
    };
    Some(why)
}
