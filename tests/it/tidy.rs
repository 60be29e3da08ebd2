//! The rules of the source tree that a compiler does not check, as a test: who may use whom, where a crate may be named, how long
//! things may get, what must not be left behind, and that the documents name files that exist.

mod rules;
mod source;
mod tables;
mod teeth;

use std::fmt;
use std::path::{Path, PathBuf};

use source::Source;

/// Folders that hold nothing of ours to check, or data that was recorded elsewhere.
const SKIPPED: &[&str] = &["target", ".git", "golden", "data", "vectors", "node_modules"];

/// A broken rule: where, which, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    path: String,
    line: usize,
    rule: &'static str,
    what: String,
}

impl Violation {
    /// `line` counts from 0 and is shown from 1.
    fn new(path: &str, line: usize, rule: &'static str, what: String) -> Self {
        Violation { path: path.into(), line: line + 1, rule, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}: {}", self.path, self.line, self.rule, self.what)
    }
}

/// A text file below the root of the repository.
struct TextFile {
    path: String,
    text: String,
}

#[test]
fn the_tree_is_tidy() {
    let root = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for tests");
    let root = Path::new(&root);
    let files = read_tree(root);
    let sources: Vec<Source> = files
        .iter()
        .filter(|file| file.path.ends_with(".rs"))
        .map(|file| Source::parse(&file.path, &file.text))
        .collect();
    assert!(sources.len() > 20, "found only {} Rust files below {}", sources.len(), root.display());

    let mut found = rules::check(&sources);
    for file in &files {
        found.extend(blanks(file));
        found.extend(match file.path.as_str() {
            path if path.ends_with("Cargo.toml") => unexplained_dependencies(file),
            path if path.ends_with(".md") => missing_files(file, |path| root.join(path).exists()),
            _ => vec![],
        });
    }
    found.extend(missing_rooms(&files));
    let list: Vec<String> = found.iter().map(Violation::to_string).collect();
    assert!(list.is_empty(), "{} broken rules:\n{}\n", list.len(), list.join("\n"));
}

/// All text files that people write: code, documents, settings, scripts.
fn read_tree(root: &Path) -> Vec<TextFile> {
    let mut files = vec![];
    let mut folders: Vec<PathBuf> = vec![root.into()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        for entry in entries {
            let entry = entry.expect("an entry of a folder of ours can be read");
            let (name, path) = (entry.file_name().to_string_lossy().into_owned(), entry.path());
            let kind = entry.file_type().expect("an entry of a folder of ours has a type");
            if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
                folders.push(path);
            } else if kind.is_file() && is_written_by_hand(&name, &path) {
                let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
                let path =
                    path.strip_prefix(root).expect("the walk began at the root").to_string_lossy().replace('\\', "/");
                files.push(TextFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn is_written_by_hand(name: &str, path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "md" | "toml" | "sh" | "py" | "properties" | "yml"))
        || path.ends_with(".ci/run")
        || name == "run"
}

/// Tabs, blanks at the end of a line, and a last line without its end.
fn blanks(file: &TextFile) -> Vec<Violation> {
    let mut found = vec![];
    for (line, text) in file.text.lines().enumerate() {
        if text.contains('\t') {
            found.push(Violation::new(&file.path, line, "tab", "write blanks, or \\t in a literal".into()));
        }
        if text.ends_with([' ', '\r']) {
            found.push(Violation::new(&file.path, line, "trailing blank", "remove it".into()));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        let line = file.text.lines().count() - 1;
        found.push(Violation::new(&file.path, line, "no end of line", "end the last line".into()));
    }
    found
}

/// Direct dependencies without a comment above them that says what they are for.
fn unexplained_dependencies(file: &TextFile) -> Vec<Violation> {
    const SECTIONS: &[&str] = &["[dependencies]", "[dev-dependencies]", "[build-dependencies]"];
    let mut found = vec![];
    let (mut inside, mut explained) = (false, false);
    for (line, text) in file.text.lines().enumerate() {
        let text = text.trim();
        if text.starts_with('[') {
            inside = SECTIONS.contains(&text) || (text.starts_with("[target.") && text.ends_with("dependencies]"));
        } else if inside && !explained && !text.is_empty() && !text.starts_with('#') {
            let name = text.split(['.', ' ', '=']).next().unwrap_or(text);
            let what = format!("`{name}`: say in one sentence above it what it is for");
            found.push(Violation::new(&file.path, line, "unexplained dependency", what));
        }
        explained = text.starts_with('#');
    }
    found
}

/// Relative links, and names of files in backquotes that begin with a folder of ours, which lead nowhere.
fn missing_files(file: &TextFile, exists: impl Fn(&str) -> bool) -> Vec<Violation> {
    const FOLDERS: &[&str] = &["src/", "connect-api/", "tests/", "docs/", "bench/", "config/", "examples/", ".ci/"];
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = vec![];
    let mut in_block = false;
    for (line, text) in file.text.lines().enumerate() {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
        }
        if in_block {
            continue;
        }
        let links = text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next());
        let links = links.filter(|link| !link.is_empty() && !link.contains("://") && !link.starts_with("mailto:"));
        let named = text.split('`').skip(1).step_by(2);
        let named = named.filter(|name| {
            FOLDERS.iter().any(|folder| name.starts_with(folder)) && !name.contains(['*', '<', ' ', '{'])
        });
        let links = links.map(|link| normal(&format!("{folder}/{link}")));
        for target in links.chain(named.map(|name| name.split("::").next().unwrap_or(name).to_owned())) {
            if !exists(&target) {
                found.push(Violation::new(&file.path, line, "no such file", format!("`{target}` does not exist")));
            }
        }
    }
    found
}

/// The path without `.` and `..`.
fn normal(path: &str) -> String {
    let mut parts = vec![];
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            _ => parts.push(part),
        }
    }
    parts.join("/")
}

/// Rooms that ARCHITECTURE.md does not speak of.
fn missing_rooms(files: &[TextFile]) -> Vec<Violation> {
    let text = files.iter().find(|file| file.path == "ARCHITECTURE.md").map_or("", |file| &file.text);
    let is_missing = |room: &&str| !text.contains(&format!("`{room}`")) && !text.contains(&format!("`{room}.rs`"));
    let rooms = tables::ARROWS.iter().map(|(room, _)| *room);
    let describe = |room: &str| format!("the room `{room}` is not described");
    rooms
        .filter(is_missing)
        .map(|room| Violation::new("ARCHITECTURE.md", 0, "undescribed room", describe(room)))
        .collect()
}
