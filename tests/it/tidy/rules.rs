//! The rules about Rust files. Each takes parsed files and gives violations; nothing here reads the disk.

use super::source::Source;
use super::{Violation, tables};

/// Lines a file may have.
const MAX_FILE_LINES: usize = 800;
/// Lines a function may have, with its signature.
const MAX_FUNCTION_LINES: usize = 70;
/// Words that make a message of `expect` a reason rather than a label.
const MIN_REASON_WORDS: usize = 5;

/// Checks all files. Which modules are test code is known only from all of them together.
pub fn check(sources: &[Source]) -> Vec<Violation> {
    let test_paths = test_module_paths(sources);
    let mut found = vec![];
    for source in sources {
        let all_test = source.path.starts_with("tests/")
            || source.path.contains("/tests/")
            || source.path.ends_with("/tests.rs")
            || test_paths
                .iter()
                .any(|path| source.path == format!("{path}.rs") || source.path.starts_with(&format!("{path}/")));
        let is_test = |line: usize| all_test || source.is_test[line];
        size(source, &mut found);
        left_overs(source, &mut found);
        unexplained_panics(source, &is_test, &mut found);
        sleeps(source, &is_test, &mut found);
        if source.path.starts_with("src/") {
            arrows(source, &is_test, &mut found);
            crates(source, &mut found);
            forbidden_calls(source, &mut found);
        }
        if source.path.starts_with("connect-api/src/") {
            plug_in_interface(source, &is_test, &mut found);
        }
    }
    found
}

/// Paths, without `.rs`, of the modules declared under `#[cfg(test)]`.
fn test_module_paths(sources: &[Source]) -> Vec<String> {
    let mut paths = vec![];
    for source in sources {
        let own = source.path.trim_end_matches(".rs");
        let directory = match own.rsplit_once('/') {
            Some((directory, "mod" | "lib" | "main")) => directory,
            _ => own,
        };
        paths.extend(source.test_modules.iter().map(|name| format!("{directory}/{name}")));
    }
    paths
}

fn size(source: &Source, found: &mut Vec<Violation>) {
    let lines = source.lines.len() - 1;
    if lines > MAX_FILE_LINES {
        let what = format!("{lines} lines; split it by concept, the bound is {MAX_FILE_LINES}");
        found.push(Violation::new(&source.path, 0, "file too long", what));
    }
    for function in source.functions() {
        let exception =
            tables::LONG_FUNCTIONS.iter().find(|(path, name, _)| *path == source.path && *name == function.name);
        let bound = exception.map_or(MAX_FUNCTION_LINES, |(_, _, lines)| *lines);
        if function.lines > bound {
            let what = format!("fn {} has {} lines; split it, the bound is {bound}", function.name, function.lines);
            found.push(Violation::new(&source.path, function.first_line, "function too long", what));
        }
        if exception.is_some() && function.lines <= MAX_FUNCTION_LINES {
            let what = format!("fn {} is short enough now; take it out of LONG_FUNCTIONS", function.name);
            found.push(Violation::new(&source.path, function.first_line, "ratchet", what));
        }
    }
}

/// Unfinished work, tests that do not run, tabs and blanks at the end of a line.
fn left_overs(source: &Source, found: &mut Vec<Violation>) {
    let mut may_be_ignored = tables::IGNORED.iter().find(|(path, ..)| *path == source.path).map_or(0, |(_, n, _)| *n);
    for (line, code) in source.code.iter().enumerate() {
        let squeezed: String = code.split_whitespace().collect();
        for name in ["todo!(", "unimplemented!("] {
            if squeezed.contains(name) {
                let what =
                    format!("{name}..): write the code, or answer with an error that says what is not supported");
                found.push(Violation::new(&source.path, line, "unfinished", what));
            }
        }
        if squeezed.contains("#[ignore") && may_be_ignored > 0 {
            may_be_ignored -= 1;
        } else if squeezed.contains("#[ignore") {
            let what =
                "a test that never runs proves nothing: repair it, delete it, or say in IGNORED who runs it".into();
            found.push(Violation::new(&source.path, line, "ignored test", what));
        }
        let mut words = source.lines[line].split(|c: char| !c.is_alphanumeric() && c != '_');
        let in_text = source.comments[line].trim().is_empty() && !source.lines[line].trim_start().starts_with("//");
        if !in_text && words.any(|word| matches!(word, "TODO" | "FIXME" | "XXX")) {
            let what = "finish it now, or say as a plain fact what is absent and why".into();
            found.push(Violation::new(&source.path, line, "unfinished", what));
        }
    }
}

fn unexplained_panics(source: &Source, is_test: &impl Fn(usize) -> bool, found: &mut Vec<Violation>) {
    if !source.path.contains("src/") {
        return;
    }
    for (line, code) in source.code.iter().enumerate() {
        let squeezed: String = code.split_whitespace().collect();
        let panics =
            [".unwrap()", ".expect(", ".unwrap_err()", ".expect_err("].iter().any(|call| squeezed.contains(call));
        if panics && !is_test(line) && !source.is_explained(line) && !expects_with_a_sentence(source, line) {
            let what = "return the error, or say why this cannot fail: in a comment on this line or above it, or as a \
                        sentence in expect(..)"
                .into();
            found.push(Violation::new(&source.path, line, "unexplained unwrap", what));
        }
    }
}

/// Whether the line has one panicking call, `expect` with a message of some words, which rustfmt may have put below.
fn expects_with_a_sentence(source: &Source, line: usize) -> bool {
    let text = source.lines[line..].iter().take(3).map(|text| text.trim()).collect::<Vec<_>>().join(" ");
    let calls = source.code[line].matches("unwrap").count() + source.code[line].matches(".expect").count();
    let message = text.split_once(".expect(").and_then(|(_, rest)| rest.trim_start().strip_prefix('"'));
    let words = message.and_then(|message| message.split('"').next()).map_or(0, |words| words.split(' ').count());
    calls == 1 && words >= MIN_REASON_WORDS
}

fn sleeps(source: &Source, is_test: &impl Fn(usize) -> bool, found: &mut Vec<Violation>) {
    let calls: Vec<usize> = (0..source.tokens.len())
        .filter(|&at| source.is_at(at, "sleep (") || source.is_at(at, "sleep_until ("))
        .map(|at| source.tokens[at].line)
        .filter(|&line| is_test(line))
        .collect();
    let allowed = tables::SLEEPS.iter().find(|(path, ..)| *path == source.path).map_or(0, |(_, count, _)| *count);
    if calls.len() > allowed {
        for line in calls {
            let what = "wait for the condition itself (a channel, a watch, a bounded poll in tests/it/support), or add the \
                        file to SLEEPS with the reason";
            found.push(Violation::new(&source.path, line, "sleep in a test", what.into()));
        }
    }
}

/// The room of a file below `src/`: its folder, or its name where it stands alone.
fn room_of(path: &str) -> &str {
    let inner = path.trim_start_matches("src/");
    match inner.split_once('/') {
        Some((room, _)) => room,
        None => match inner.trim_end_matches(".rs") {
            "lib" => "main",
            room => room,
        },
    }
}

fn arrows(source: &Source, is_test: &impl Fn(usize) -> bool, found: &mut Vec<Violation>) {
    let room = room_of(&source.path);
    let Some((_, allowed)) = tables::ARROWS.iter().find(|(from, _)| *from == room) else {
        let what =
            format!("there is no room `{room}`: move the file, or add the room to ARROWS and to ARCHITECTURE.md");
        found.push(Violation::new(&source.path, 0, "unknown room", what));
        return;
    };
    let mut paths = source.crate_paths();
    paths.extend(source.uses_of_crate("connect_api").into_iter().map(|line| ("connect_api".to_owned(), line)));
    for (path, line) in paths {
        let target = path.split("::").next().unwrap_or_default();
        let is_room = target == "connect_api" || tables::ARROWS.iter().any(|(name, _)| *name == target);
        if target == room || allowed.contains(&"*") || !is_room {
            continue;
        }
        let leads_to = |prefix: &str| path == prefix || path.starts_with(&format!("{prefix}::"));
        let permitted = allowed.iter().any(|prefix| leads_to(prefix));
        let private = tables::PRIVATE.iter().find(|(prefix, _)| leads_to(prefix));
        let private = private.filter(|(_, also_tests)| !(*also_tests && is_test(line)));
        if !permitted {
            let what = format!(
                "`{room}` must not know `{path}` (it may use: {}); pass a plain value in, or turn the call around",
                if allowed.is_empty() { "nothing of ours".into() } else { allowed.join(", ") }
            );
            found.push(Violation::new(&source.path, line, "forbidden arrow", what));
        } else if let Some((prefix, _)) = private {
            let what = format!("`{prefix}` is for `node` and `main` alone; `{room}` works on the traits of its room");
            found.push(Violation::new(&source.path, line, "forbidden arrow", what));
        }
    }
}

fn crates(source: &Source, found: &mut Vec<Violation>) {
    for (name, places) in tables::CRATES {
        if places.iter().any(|place| source.path.starts_with(place)) {
            continue;
        }
        for line in source.uses_of_crate(name) {
            let what = format!("the crate `{name}` may be named in {} only", places.join(", "));
            found.push(Violation::new(&source.path, line, "crate in the wrong room", what));
        }
    }
}

fn forbidden_calls(source: &Source, found: &mut Vec<Violation>) {
    for (line, code) in source.code.iter().enumerate() {
        let words: Vec<&str> = code.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
        for (name, why) in tables::FORBIDDEN_CALLS.iter().filter(|(name, _)| words.contains(name)) {
            found.push(Violation::new(&source.path, line, "forbidden call", format!("`{name}`: {why}")));
        }
    }
}

/// What a plug-in author compiles against stays free of the runtime.
fn plug_in_interface(source: &Source, is_test: &impl Fn(usize) -> bool, found: &mut Vec<Violation>) {
    for name in tables::NOT_IN_CONNECT_API {
        for line in source.uses_of_crate(name).into_iter().filter(|&line| !is_test(line)) {
            let what = format!("connect-api must not name `{name}`: every plug-in would have to be built against it");
            found.push(Violation::new(&source.path, line, "crate in the wrong room", what));
        }
    }
}
