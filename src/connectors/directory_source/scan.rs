//! Which files a directory has.

use std::fs;
use std::io;
use std::path::Path;

/// A pattern of file names, as in a shell: `*` for any characters, `?` for one, `[a-z]` for one of these, `[!a-z]` for one of
/// the others; a backslash takes the next character its meaning. A name that begins with a dot needs a pattern that does.
#[derive(Debug, Clone, PartialEq)]
pub struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Char(char),
    AnyChar,
    AnyChars,
    OneOf { ranges: Vec<(char, char)>, negated: bool },
}

impl Glob {
    /// Every text is a pattern; a bracket that is not closed stands for itself.
    pub fn new(pattern: &str) -> Glob {
        let mut parts = Vec::new();
        let mut rest = pattern.chars();
        while let Some(char) = rest.next() {
            parts.push(match char {
                '*' => Part::AnyChars,
                '?' => Part::AnyChar,
                '\\' => Part::Char(rest.next().unwrap_or('\\')),
                '[' => match bracket(rest.as_str()) {
                    Some((part, behind)) => {
                        rest = behind.chars();
                        part
                    }
                    None => Part::Char('['),
                },
                other => Part::Char(other),
            });
        }
        Glob { parts }
    }

    /// Whether a whole name fits. Takes time in proportion to the lengths of name and pattern multiplied, at most.
    pub fn matches(&self, name: &str) -> bool {
        if name.starts_with('.') && self.parts.first() != Some(&Part::Char('.')) {
            return false;
        }
        let name: Vec<char> = name.chars().collect();
        let (mut at, mut part) = (0, 0);
        // Where the last `*` stands, and how far it reaches so far: only the last one ever has to take more.
        let mut star: Option<(usize, usize)> = None;
        while at < name.len() {
            match self.parts.get(part) {
                Some(Part::AnyChars) => {
                    star = Some((part, at));
                    part += 1;
                }
                Some(single) if single.takes(name[at]) => (at, part) = (at + 1, part + 1),
                _ => match &mut star {
                    Some((behind, reach)) => {
                        *reach += 1;
                        (at, part) = (*reach, *behind + 1);
                    }
                    None => return false,
                },
            }
        }
        self.parts[part..].iter().all(|part| *part == Part::AnyChars)
    }
}

impl Part {
    fn takes(&self, char: char) -> bool {
        match self {
            Part::Char(wanted) => *wanted == char,
            Part::AnyChar => true,
            Part::AnyChars => false,
            Part::OneOf { ranges, negated } => {
                ranges.iter().any(|(first, last)| (*first..=*last).contains(&char)) != *negated
            }
        }
    }
}

/// What stands behind an opening bracket, and the rest behind the closing one; a closing one in the first place stands for itself.
fn bracket(text: &str) -> Option<(Part, &str)> {
    let (negated, text) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let first = text.chars().next()?.len_utf8();
    let end = first + text[first..].find(']')?;
    let mut ranges = Vec::new();
    let mut inside = text[..end].chars().peekable();
    while let Some(first) = inside.next() {
        let mut ahead = inside.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                inside = ahead;
                last
            }
            _ => first,
        };
        ranges.push((first, last));
    }
    Some((Part::OneOf { ranges, negated }, &text[end + 1..]))
}

/// What stands in a directory.
#[derive(Debug, Default, PartialEq)]
pub struct Listing {
    /// Names of regular files that fit the pattern, also behind symbolic links, sorted.
    pub names: Vec<String>,
    /// How many names are no UTF-8: they cannot stand in an offset.
    pub not_text: usize,
}

/// Lists a directory, without what is below it. Links that lead nowhere and all that is no regular file are left out.
pub fn scan(directory: &Path, pattern: &Glob) -> io::Result<Listing> {
    let mut listing = Listing::default();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = match entry.file_name().into_string() {
            Ok(name) => name,
            Err(_) => {
                listing.not_text += 1;
                continue;
            }
        };
        if pattern.matches(&name) && is_file(&entry) {
            listing.names.push(name);
        }
    }
    listing.names.sort_unstable();
    Ok(listing)
}

/// An entry that vanished meanwhile is none.
fn is_file(entry: &fs::DirEntry) -> bool {
    match entry.file_type() {
        Ok(kind) if kind.is_symlink() => fs::metadata(entry.path()).is_ok_and(|target| target.is_file()),
        Ok(kind) => kind.is_file(),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_those_of_a_shell() {
        for (pattern, name, fits) in [
            ("*", "a.log", true),
            ("*", "", true),
            ("*", ".hidden", false),
            (".*", ".hidden", true),
            ("?hidden", ".hidden", false),
            ("*.log", "a.log", true),
            ("*.log", "a.log.1", false),
            ("*.log", ".log", false),
            ("a*b*c", "a-bb-b-c", true),
            ("a*b*c", "a-bb-b-", false),
            ("?", "é", true),
            ("?", "", false),
            ("a?c", "ac", false),
            ("[a-c]x", "bx", true),
            ("[a-c]x", "dx", false),
            ("[!a-c]x", "dx", true),
            ("[^a-c]x", "ax", false),
            ("[]]", "]", true),
            ("[a-]", "-", true),
            ("[!]]", "x", true),
            ("[ab", "[ab", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("a\\", "a\\", true),
            ("", "", true),
            ("", "a", false),
            ("A", "a", false),
        ] {
            assert_eq!(Glob::new(pattern).matches(name), fits, "{pattern} {name}");
        }
    }

    #[test]
    fn many_stars_take_no_long_time() {
        assert!(!Glob::new(&"*a".repeat(100)).matches(&"a".repeat(99)));
        assert!(!Glob::new(&format!("{}b", "a*".repeat(100))).matches(&"a".repeat(250)));
    }

    proptest! {
        #[test]
        fn stars_match_as_a_plain_definition_says(pattern in "[ab*?]{0,8}", name in "[ab]{0,8}") {
            fn plain(pattern: &[u8], name: &[u8]) -> bool {
                match (pattern.first(), name.first()) {
                    (None, first) => first.is_none(),
                    (Some(b'*'), first) => {
                        plain(&pattern[1..], name) || first.is_some() && plain(pattern, &name[1..])
                    }
                    (Some(part), Some(char)) => (*part == b'?' || part == char) && plain(&pattern[1..], &name[1..]),
                    (Some(_), None) => false,
                }
            }
            prop_assert_eq!(Glob::new(&pattern).matches(&name), plain(pattern.as_bytes(), name.as_bytes()));
        }
    }

    #[test]
    fn only_regular_files_are_listed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        for name in ["b.log", "a.log", "c.txt", ".d.log", "line\nend.log"] {
            fs::write(path.join(name), "x\n").unwrap();
        }
        fs::create_dir(path.join("below.log")).unwrap();
        fs::write(path.join("below.log/e.log"), "x\n").unwrap();
        symlink("c.txt", path.join("link.log")).unwrap();
        symlink("nowhere", path.join("dangling.log")).unwrap();
        symlink("below.log", path.join("to-directory.log")).unwrap();
        symlink("/dev/null", path.join("device.log")).unwrap();
        fs::write(path.join(OsStr::from_bytes(b"\xff.log")), "x\n").unwrap();
        let listing = scan(path, &Glob::new("*.log")).unwrap();
        assert_eq!(listing.names, ["a.log", "b.log", "line\nend.log", "link.log"]);
        assert_eq!(listing.not_text, 1);
        assert!(scan(&path.join("missing"), &Glob::new("*")).is_err());
    }
}
