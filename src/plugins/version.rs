//! Versions of plug-ins and the ranges of them that configurations ask for, with Maven's rules (KIP-891; Java: `VersionRange` and
//! `ComparableVersion` of maven-artifact).

use std::cmp::Ordering;

/// What `connector.plugin.version` asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange {
    /// Each of them fits. None: whatever there is.
    intervals: Vec<Interval>,
}

/// From one version to another; each end may be left open.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interval {
    lower: Option<End>,
    upper: Option<End>,
}

/// A version, and whether it belongs to the interval.
#[derive(Debug, Clone, PartialEq, Eq)]
struct End {
    version: Version,
    included: bool,
}

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{range:?} is no version and no range of versions such as [1.0,2.0): {why}")]
pub struct RangeError {
    range: String,
    why: &'static str,
}

impl VersionRange {
    /// `latest`, a version, or ranges such as `[1.0,2.0),[3.0,)`. A version alone means exactly that one.
    pub fn parse(text: &str) -> Result<Self, RangeError> {
        let error = |why| RangeError { range: text.to_owned(), why };
        let mut rest = text.trim();
        if rest.is_empty() || rest == "latest" {
            return Ok(VersionRange { intervals: Vec::new() });
        }
        if !rest.starts_with(['[', '(']) {
            return Ok(VersionRange { intervals: vec![Interval::exactly(Version::parse(rest))] });
        }
        let mut intervals: Vec<Interval> = Vec::new();
        while rest.starts_with(['[', '(']) {
            let end = rest.find([']', ')']).ok_or_else(|| error("a bracket is not closed"))?;
            let interval = Interval::parse(&rest[..=end]).map_err(error)?;
            if intervals.last().is_some_and(|before| !before.is_below(&interval)) {
                return Err(error("ranges overlap, or are not in order"));
            }
            intervals.push(interval);
            rest = rest[end + 1..].trim_start();
            rest = rest.strip_prefix(',').map_or(rest, str::trim_start);
        }
        if rest.is_empty() { Ok(VersionRange { intervals }) } else { Err(error("something stands behind the ranges")) }
    }

    /// Whether a version fits.
    pub fn contains(&self, version: &str) -> bool {
        let version = Version::parse(version);
        self.intervals.is_empty() || self.intervals.iter().any(|interval| interval.contains(&version))
    }
}

impl Interval {
    fn exactly(version: Version) -> Self {
        let end = End { version, included: true };
        Interval { lower: Some(end.clone()), upper: Some(end) }
    }

    /// With its brackets.
    fn parse(text: &str) -> Result<Self, &'static str> {
        let (lower_included, upper_included) = (text.starts_with('['), text.ends_with(']'));
        let inner = &text[1..text.len() - 1];
        let Some((lower, upper)) = inner.split_once(',') else {
            let exact = lower_included && upper_included;
            return exact.then(|| Interval::exactly(Version::parse(inner.trim()))).ok_or("one version stands in [ ]");
        };
        let end = |text: &str, included| {
            let text = text.trim();
            (!text.is_empty()).then(|| End { version: Version::parse(text), included })
        };
        let (lower, upper) = (end(lower, lower_included), end(upper, upper_included));
        if let (Some(lower), Some(upper)) = (&lower, &upper) {
            match lower.version.cmp(&upper.version) {
                Ordering::Greater => return Err("it ends before it begins"),
                Ordering::Equal if !(lower.included && upper.included) => return Err("nothing is in it"),
                _ => {}
            }
        }
        Ok(Interval { lower, upper })
    }

    fn is_below(&self, next: &Interval) -> bool {
        match (&self.upper, &next.lower) {
            (Some(upper), Some(lower)) => upper.version <= lower.version,
            // Java looks at the upper end only where there is one.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    fn contains(&self, version: &Version) -> bool {
        let above = self.lower.as_ref().is_none_or(|end| match version.cmp(&end.version) {
            Ordering::Greater => true,
            Ordering::Equal => end.included,
            Ordering::Less => false,
        });
        let below = self.upper.as_ref().is_none_or(|end| match version.cmp(&end.version) {
            Ordering::Less => true,
            Ordering::Equal => end.included,
            Ordering::Greater => false,
        });
        above && below
    }
}

/// A version, to be compared with others: `1.10` is later than `1.9`, `1.0-rc1` earlier than `1.0`, which is `1`.
#[derive(Debug, Clone)]
struct Version(Vec<Item>);

/// A part of a version. A hyphen, and each change between digits and letters, begin a list.
#[derive(Debug, Clone)]
enum Item {
    /// Without leading zeros, so that the longer one is larger, however long.
    Number(String),
    Word(String),
    List(Vec<Item>),
}

/// From the earliest to the latest; the empty one is the release. Unknown words come behind all of them.
const QUALIFIERS: &[&str] = &["alpha", "beta", "milestone", "rc", "snapshot", "", "sp"];

impl Version {
    fn parse(text: &str) -> Self {
        let text = text.to_lowercase();
        // The lists that are open, the innermost last.
        let mut open: Vec<Vec<Item>> = vec![Vec::new()];
        let mut token = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            match character {
                '.' => push(&mut open, std::mem::take(&mut token), false),
                '-' => {
                    push(&mut open, std::mem::take(&mut token), false);
                    open.push(Vec::new());
                }
                _ => {
                    token.push(character);
                    let Some(next) = characters.peek().filter(|next| !matches!(next, '.' | '-')) else { continue };
                    if next.is_ascii_digit() != character.is_ascii_digit() {
                        push(&mut open, std::mem::take(&mut token), next.is_ascii_digit());
                        open.push(Vec::new());
                    }
                }
            }
        }
        if !token.is_empty() {
            push(&mut open, token, false);
        }
        // Closed from the inside: each list is the last item of the one around it.
        let inmost = open.pop().unwrap_or_default();
        let items = open.into_iter().rev().fold(normal(inmost), |inner, mut outer| {
            if !inner.is_empty() {
                outer.push(Item::List(inner));
            }
            normal(outer)
        });
        Version(items)
    }
}

/// Adds a token to the innermost list; nothing between two dots is a zero.
fn push(open: &mut [Vec<Item>], token: String, before_digit: bool) {
    let item = if token.bytes().all(|byte| byte.is_ascii_digit()) {
        Item::Number(token.trim_start_matches('0').to_owned())
    } else {
        Item::Word(match token.as_str() {
            "a" if before_digit => "alpha".to_owned(),
            "b" if before_digit => "beta".to_owned(),
            "m" if before_digit => "milestone".to_owned(),
            "ga" | "final" | "release" => String::new(),
            "cr" => "rc".to_owned(),
            _ => token,
        })
    };
    if let Some(list) = open.last_mut() {
        list.push(item);
    }
}

/// Without what says nothing at its end: zeros, releases, empty lists. What stands in front of a list at the end counts as its end, too.
fn normal(mut items: Vec<Item>) -> Vec<Item> {
    for at in (0..items.len()).rev() {
        match &items[at] {
            item if item.is_nothing() => _ = items.remove(at),
            Item::List(_) => {}
            _ => break,
        }
    }
    items
}

impl Item {
    fn is_nothing(&self) -> bool {
        match self {
            Item::Number(digits) => digits.is_empty(),
            Item::Word(word) => word.is_empty(),
            Item::List(items) => items.is_empty(),
        }
    }

    /// Compared with a version that has nothing there.
    fn cmp_nothing(&self) -> Ordering {
        match self {
            Item::Number(digits) => digits.len().cmp(&0),
            Item::Word(word) => rank(word).cmp(&rank("")),
            Item::List(items) => {
                items.iter().map(Item::cmp_nothing).find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
            }
        }
    }

    /// `1.1` is later than `1-1`, which is later than `1-sp`.
    fn kind(&self) -> u8 {
        match self {
            Item::Word(_) => 0,
            Item::List(_) => 1,
            Item::Number(_) => 2,
        }
    }
}

fn rank(word: &str) -> (usize, &str) {
    QUALIFIERS.iter().position(|known| *known == word).map_or((QUALIFIERS.len(), word), |rank| (rank, ""))
}

fn cmp_items(one: &[Item], other: &[Item]) -> Ordering {
    let pairs = (0..one.len().max(other.len())).map(|at| match (one.get(at), other.get(at)) {
        (Some(one), Some(other)) => match (one, other) {
            (Item::Number(one), Item::Number(other)) => (one.len(), one).cmp(&(other.len(), other)),
            (Item::Word(one), Item::Word(other)) => rank(one).cmp(&rank(other)),
            (Item::List(one), Item::List(other)) => cmp_items(one, other),
            _ => one.kind().cmp(&other.kind()),
        },
        (Some(one), None) => one.cmp_nothing(),
        (None, Some(other)) => other.cmp_nothing().reverse(),
        (None, None) => Ordering::Equal,
    });
    pairs.into_iter().find(|order| order.is_ne()).unwrap_or(Ordering::Equal)
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        cmp_items(&self.0, &other.0)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Version {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_by_maven() {
        let ascending = [
            "1-alpha2snapshot",
            "1-alpha2",
            "1-alpha-123",
            "1-beta-2",
            "1-beta123",
            "1-m2",
            "1-m11",
            "1-rc",
            "1-cr2",
            "1-rc123",
            "1-SNAPSHOT",
            "1",
            "1-sp",
            "1-sp2",
            "1-sp123",
            "1-abc",
            "1-def",
            "1-pom-1",
            "1-1-snapshot",
            "1-1",
            "1-2",
            "1-123",
        ];
        for (at, one) in ascending.iter().enumerate() {
            for other in &ascending[at + 1..] {
                assert!(Version::parse(one) < Version::parse(other), "{one} < {other}");
                assert!(Version::parse(other) > Version::parse(one), "{other} > {one}");
            }
        }
        let equal = ["1", "1.0", "1.0.0", "1-0", "1.ga", "1.0-final", "1release", "01", "1--"];
        for other in equal {
            assert_eq!(Version::parse("1"), Version::parse(other), "{other}");
        }
        assert!(Version::parse("1.9") < Version::parse("1.10"));
        assert!(Version::parse("99999999999999999999999") < Version::parse("100000000000000000000000"));
    }

    #[test]
    fn ranges_hold_what_is_between_their_ends() {
        let fits = |range: &str, version: &str| VersionRange::parse(range).unwrap().contains(version);
        for (range, inside, outside) in [
            ("4.3.0", &["4.3.0", "4.3"][..], &["4.3.1", "4.2.9"][..]),
            ("[4.3.0]", &["4.3.0"], &["4.3.1"]),
            ("[1,2)", &["1", "1.9.9"], &["0.9", "2", "1-rc1"]),
            ("(1,2]", &["1.1", "2.0"], &["1.0", "2.0.1"]),
            ("[4.0,)", &["4.0", "5"], &["3.9"]),
            ("(,4.0)", &["3", "4.0-rc1"], &["4.0"]),
            ("[1,2), [3,4)", &["1.5", "3.5"], &["2.5", "4"]),
            (" latest ", &["1", "99"], &[]),
            ("", &["1"], &[]),
        ] {
            inside.iter().for_each(|version| assert!(fits(range, version), "{version} in {range}"));
            outside.iter().for_each(|version| assert!(!fits(range, version), "{version} not in {range}"));
        }
    }

    #[test]
    fn what_is_no_range_says_why() {
        for (text, why) in [
            ("[1,2", "a bracket is not closed"),
            ("(1)", "one version stands in [ ]"),
            ("[2,1]", "it ends before it begins"),
            ("(1,1]", "nothing is in it"),
            ("[1,3],[2,4]", "ranges overlap, or are not in order"),
            ("[1,2],3", "something stands behind the ranges"),
        ] {
            let error = VersionRange::parse(text).unwrap_err().to_string();
            assert!(error.contains(why) && error.contains(text), "{text}: {error}");
        }
        // Whatever else is a version.
        assert!(!VersionRange::parse("é[,").unwrap().contains("1"));
    }
}
