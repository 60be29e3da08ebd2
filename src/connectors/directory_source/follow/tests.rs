use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

fn append(path: &Path, text: impl AsRef<[u8]>) {
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    file.write_all(text.as_ref()).unwrap();
}

/// Files `0`, `1` and so on of a new directory, all from their start.
fn followed(count: usize) -> (tempfile::TempDir, Vec<PathBuf>, Files) {
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<PathBuf> = (0..count).map(|number| directory.path().join(number.to_string())).collect();
    let files = Files::new(paths.iter().map(|path| (path.clone(), 0)));
    (directory, paths, files)
}

/// Of one round: which file, what line, where it ends.
fn read(files: &mut Files) -> Vec<(usize, String, u64)> {
    let found = files.read().unwrap();
    found
        .into_iter()
        .flat_map(|(index, lines)| lines.map(move |line| (index, line.text.to_string(), line.end)))
        .collect()
}

fn found(lines: &[(usize, &str, u64)]) -> Vec<(usize, String, u64)> {
    lines.iter().map(|&(index, text, end)| (index, text.to_owned(), end)).collect()
}

fn open_files(files: &Files) -> usize {
    files.files.iter().filter(|file| file.file.is_some()).count()
}

#[test]
fn every_file_gives_its_complete_lines() {
    let (_directory, paths, mut files) = followed(3);
    append(&paths[0], "a\nb\nc");
    append(&paths[2], "x\n");
    assert_eq!(read(&mut files), found(&[(0, "a", 2), (0, "b", 4), (2, "x", 2)]));
    assert_eq!(read(&mut files), []);
    append(&paths[0], "\n");
    append(&paths[1], b"\xff\n");
    let mut lines = read(&mut files);
    lines.sort();
    assert_eq!(lines, found(&[(0, "c", 6), (1, "\u{fffd}", 2)]));
}

#[test]
fn a_position_is_where_reading_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a");
    append(&path, "one\ntwo\n");
    assert_eq!(read(&mut Files::new([(path.clone(), 4)])), found(&[(0, "two", 8)]));
    assert_eq!(read(&mut Files::new([(path, 8)])), []);
}

#[test]
fn a_long_file_does_not_keep_the_others_waiting() {
    let (_directory, paths, mut files) = followed(2);
    append(&paths[0], "x\n".repeat(BLOCK_BYTES));
    append(&paths[1], "short\n");
    let first = read(&mut files);
    assert!(first.iter().all(|(index, ..)| *index == 0) && first.len() < BLOCK_BYTES);
    assert_eq!(read(&mut files)[0], (1, "short".to_owned(), 6));
}

#[test]
fn few_of_many_files_are_open() {
    let (_directory, paths, mut files) = followed(MAX_OPEN_FILES * 5);
    for round in 1..=3 {
        // Lines that are torn between two rounds, so that files which were closed have to be read again.
        paths.iter().for_each(|path| append(path, "begun "));
        assert_eq!(read(&mut files), []);
        paths.iter().for_each(|path| append(path, "done\n"));
        let lines = read(&mut files);
        assert_eq!(lines.len(), paths.len());
        assert!(lines.iter().all(|(_, text, end)| text == "begun done" && *end == round * 11), "{lines:?}");
        assert_eq!(open_files(&files), MAX_OPEN_FILES);
    }
    assert_eq!(read(&mut files), []);
}

#[test]
fn a_vanished_file_keeps_its_position_and_disturbs_nobody() {
    let (directory, paths, mut files) = followed(2);
    let aside = directory.path().join("aside");
    paths.iter().for_each(|path| append(path, "one\n"));
    assert_eq!(read(&mut files).len(), 2);
    append(&paths[0], "two\n");
    fs::rename(&paths[0], &aside).unwrap();
    append(&paths[1], "two\n");
    assert_eq!(read(&mut files), found(&[(0, "two", 8), (1, "two", 8)]), "an open file is read to its end");
    assert_eq!(read(&mut files), []);
    append(&aside, "three\n");
    fs::rename(&aside, &paths[0]).unwrap();
    assert_eq!(read(&mut files), found(&[(0, "three", 14)]));
}

#[test]
fn a_replaced_file_is_read_from_its_start() {
    let (directory, paths, mut files) = followed(1);
    let (new, old) = (directory.path().join("new"), directory.path().join("old"));
    append(&paths[0], "one\n");
    assert_eq!(read(&mut files).len(), 1);
    append(&paths[0], "last\nincomplete");
    append(&new, "first of a longer file\n");
    fs::rename(&paths[0], &old).unwrap();
    fs::rename(&new, &paths[0]).unwrap();
    assert_eq!(read(&mut files), found(&[(0, "last", 9)]), "the open one is read to its end");
    let mut lines = read(&mut files);
    lines.extend(read(&mut files));
    assert_eq!(lines, found(&[(0, "first of a longer file", 23)]));
    // The same while it is closed.
    files.files[0].close();
    append(&new, "x\n");
    fs::rename(&new, &paths[0]).unwrap();
    assert_eq!(read(&mut files), found(&[(0, "x", 2)]));
}

#[test]
fn a_cut_file_is_an_error_that_names_file_position_and_size() {
    for closed in [false, true] {
        let (_directory, paths, mut files) = followed(1);
        append(&paths[0], "one\ntwo\n");
        assert_eq!(read(&mut files).len(), 2);
        if closed {
            files.files[0].close();
        }
        fs::OpenOptions::new().write(true).open(&paths[0]).unwrap().set_len(2).unwrap();
        let error = files.read().unwrap_err();
        for part in [paths[0].to_str().unwrap(), "2 bytes", "byte 8"] {
            assert!(error.message().contains(part), "{error}");
        }
    }
}

#[test]
fn a_cut_of_an_incomplete_line_loses_nothing() {
    let (_directory, paths, mut files) = followed(1);
    append(&paths[0], "one\nincomplete");
    assert_eq!(read(&mut files).len(), 1);
    files.files[0].close();
    fs::OpenOptions::new().write(true).open(&paths[0]).unwrap().set_len(4).unwrap();
    assert_eq!(read(&mut files), []);
    append(&paths[0], "two\n");
    assert_eq!(read(&mut files), found(&[(0, "two", 8)]));
}

#[test]
fn an_unreadable_file_does_not_keep_the_others_waiting() {
    let (_directory, paths, mut files) = followed(2);
    paths.iter().for_each(|path| append(path, "one\n"));
    fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&paths[0]).is_ok() {
        // The superuser reads everything: a name that leads to something else now is answered in the same way.
        fs::remove_file(&paths[0]).unwrap();
        fs::create_dir(&paths[0]).unwrap();
    }
    assert_eq!(read(&mut files), found(&[(1, "one", 4)]));
    assert!(files.files[0].complained);
    if paths[0].is_dir() {
        fs::remove_dir(&paths[0]).unwrap();
        append(&paths[0], "one\n");
    }
    fs::set_permissions(&paths[0], fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(read(&mut files), found(&[(0, "one", 4)]));
    assert!(!files.files[0].complained);
}

#[test]
fn a_link_is_read_like_its_file() {
    let (directory, paths, mut files) = followed(1);
    let target = directory.path().join("target");
    append(&target, "one\n");
    symlink("target", &paths[0]).unwrap();
    assert_eq!(read(&mut files), found(&[(0, "one", 4)]));
    append(&target, "two\n");
    assert_eq!(read(&mut files), found(&[(0, "two", 8)]));
}

#[test]
fn a_long_line_is_not_kept_while_it_is_incomplete() {
    let (_directory, paths, mut files) = followed(1);
    let long = "x".repeat(MAX_KEPT_BYTES + 1);
    append(&paths[0], format!("short\n{long}"));
    assert_eq!(read(&mut files).len(), 1);
    assert_eq!(read(&mut files), []);
    assert_eq!((open_files(&files), files.files[0].splitter.pending_bytes()), (0, 0));
    assert_eq!(read(&mut files), []);
    assert_eq!(open_files(&files), 0, "nothing new, so nobody looked");
    append(&paths[0], "\n");
    let lines = read(&mut files);
    assert_eq!((lines.len(), lines[0].1.len()), (1, MAX_KEPT_BYTES + 1));
}

#[test]
fn an_endless_line_is_an_error_that_names_file_and_byte() {
    let (_directory, paths, mut files) = followed(1);
    append(&paths[0], "short\n");
    let file = fs::OpenOptions::new().write(true).open(&paths[0]).unwrap();
    // 100 MB that take no room on the disk.
    file.set_len(100 << 20).unwrap();
    assert_eq!(read(&mut files).len(), 1);
    let error = files.read().unwrap_err();
    assert!(error.message().contains("the line at byte 6 of") && error.message().contains("67108864"), "{error}");
}
