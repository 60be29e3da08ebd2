//! What a worker says of itself, each fact one short text. What others say is read under bounds.

use std::fmt::Write;
use std::str::FromStr;

/// Bytes of the text of one fact. chitchat can carry more, but one value too large would block all later ones of the node without a word.
pub const FACT_MAX_BYTES: usize = 1024;

/// The facts of a worker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Facts {
    /// Of this start of the process, as in its `worker-*` record.
    pub nonce: u64,
    /// The offset of its `joined` record; `None` before it has read that.
    pub incarnation: Option<i64>,
    /// Whether it has a lease.
    pub leased: bool,
    /// Units that it runs.
    pub load: u32,
    /// Of the program.
    pub version: String,
    /// Where its REST server is reached.
    pub rest_url: String,
    /// A hash of the list of its plug-ins.
    pub plugins: u64,
    /// The end of the config topic, as far as it knows.
    pub config_end: i64,
    /// The ends of the partitions of the status topic, from partition 0. As many as fit in [`FACT_MAX_BYTES`]: the last ones may be missing.
    pub status_ends: Vec<i64>,
    /// Whether it is about to go.
    pub leaving: bool,
}

/// A fact that is not said, and nothing else of the same call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the fact {fact} has {bytes} bytes, more than {FACT_MAX_BYTES}")]
pub struct FactTooLarge {
    /// Its name.
    pub fact: &'static str,
    /// Its length.
    pub bytes: usize,
}

/// The name of the fact that ends a life before the process ends.
pub(super) const LEAVING: &str = "leaving";
pub(super) const YES: &str = "1";
const NO: &str = "0";
const NONCE: &str = "nonce";

impl Facts {
    /// The texts that peers read with [`read`].
    pub(super) fn texts(&self) -> Result<Vec<(&'static str, String)>, FactTooLarge> {
        let flag = |flag: bool| if flag { YES } else { NO }.to_owned();
        let texts = vec![
            (NONCE, self.nonce.to_string()),
            ("incarnation", self.incarnation.map(|offset| offset.to_string()).unwrap_or_default()),
            ("leased", flag(self.leased)),
            ("load", self.load.to_string()),
            ("version", self.version.clone()),
            ("rest_url", self.rest_url.clone()),
            ("plugins", self.plugins.to_string()),
            ("config_end", self.config_end.to_string()),
            ("status_ends", list_text(&self.status_ends)),
            (LEAVING, flag(self.leaving)),
        ];
        match texts.iter().find(|(_, text)| text.len() > FACT_MAX_BYTES) {
            Some((fact, text)) => Err(FactTooLarge { fact, bytes: text.len() }),
            None => Ok(texts),
        }
    }
}

/// Numbers with commas between, as many as fit.
fn list_text(numbers: &[i64]) -> String {
    let mut text = String::new();
    for number in numbers {
        let before = text.len();
        let comma = if text.is_empty() { "" } else { "," };
        // A string takes all that is written to it.
        let _ = write!(text, "{comma}{number}");
        if text.len() > FACT_MAX_BYTES {
            text.truncate(before);
            break;
        }
    }
    text
}

/// The facts of a peer, and how many of its texts could not be read; those have the values of a peer that has said nothing. `None` before its
/// nonce has come, without which nobody knows who it is.
pub(super) fn read<'a>(text: impl Fn(&str) -> Option<&'a str>) -> (Option<Facts>, u64) {
    let mut reader = Reader { text, unreadable: 0 };
    let nonce = reader.number(NONCE);
    let facts = Facts {
        nonce: nonce.unwrap_or_default(),
        incarnation: reader
            .fact("incarnation", |text| if text.is_empty() { Some(None) } else { Some(Some(number(text)?)) })
            .flatten(),
        leased: reader.flag("leased"),
        load: reader.number("load").unwrap_or_default(),
        version: reader.string("version"),
        rest_url: reader.string("rest_url"),
        plugins: reader.number("plugins").unwrap_or_default(),
        config_end: reader.number("config_end").unwrap_or_default(),
        status_ends: reader.fact("status_ends", list).unwrap_or_default(),
        leaving: reader.flag(LEAVING),
    };
    (nonce.map(|_| facts), reader.unreadable)
}

struct Reader<F> {
    text: F,
    unreadable: u64,
}

impl<'a, F: Fn(&str) -> Option<&'a str>> Reader<F> {
    /// A fact that is there and can be read.
    fn fact<T>(&mut self, name: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Option<T> {
        let text = (self.text)(name)?;
        let value = Some(text).filter(|text| text.len() <= FACT_MAX_BYTES).and_then(read);
        self.unreadable += u64::from(value.is_none());
        value
    }

    fn number<N: FromStr>(&mut self, name: &str) -> Option<N> {
        self.fact(name, number)
    }

    fn flag(&mut self, name: &str) -> bool {
        let flag = |text: &str| match text {
            YES => Some(true),
            NO => Some(false),
            _ => None,
        };
        self.fact(name, flag).unwrap_or_default()
    }

    /// It may come to logs and answers: no control characters.
    fn string(&mut self, name: &str) -> String {
        let string = |text: &str| (!text.contains(char::is_control)).then(|| text.to_owned());
        self.fact(name, string).unwrap_or_default()
    }
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    text.parse().ok()
}

fn list(text: &str) -> Option<Vec<i64>> {
    text.split(',').filter(|_| !text.is_empty()).map(number).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn facts() -> Facts {
        Facts {
            nonce: u64::MAX,
            incarnation: Some(7),
            leased: true,
            load: 3,
            version: "0.1.0".to_owned(),
            rest_url: "http://a:8083".to_owned(),
            plugins: 1,
            config_end: 12,
            status_ends: vec![0, -1, i64::MAX],
            leaving: false,
        }
    }

    fn read_back(texts: &[(&'static str, String)]) -> (Option<Facts>, u64) {
        let texts: HashMap<_, _> = texts.iter().cloned().collect();
        read(|name| texts.get(name).map(String::as_str))
    }

    #[test]
    fn what_is_said_is_read() {
        for facts in [facts(), Facts::default(), Facts { leaving: true, incarnation: Some(0), ..facts() }] {
            assert_eq!(read_back(&facts.texts().unwrap()), (Some(facts), 0));
        }
    }

    #[test]
    fn a_fact_that_is_too_large_is_refused() {
        let largest = Facts { version: "x".repeat(FACT_MAX_BYTES), ..facts() };
        assert_eq!(read_back(&largest.texts().unwrap()).0, Some(largest.clone()));
        let larger = Facts { version: largest.version.clone() + "x", ..largest };
        assert_eq!(larger.texts(), Err(FactTooLarge { fact: "version", bytes: FACT_MAX_BYTES + 1 }));
    }

    #[test]
    fn the_ends_that_do_not_fit_are_left_out() {
        let many = Facts { status_ends: vec![i64::MAX; 1000], ..facts() };
        let (Some(read), 0) = read_back(&many.texts().unwrap()) else { panic!("it can be read") };
        assert_eq!(read.status_ends, vec![i64::MAX; FACT_MAX_BYTES / 20]);
    }

    #[test]
    fn what_cannot_be_read_is_dropped_and_counted() {
        let mut texts = facts().texts().unwrap();
        texts.iter_mut().for_each(|(name, text)| {
            if !["nonce", "version"].contains(name) {
                *text = format!("\n{}", "9".repeat(30));
            }
        });
        let expected = Facts { nonce: u64::MAX, version: "0.1.0".to_owned(), ..Facts::default() };
        assert_eq!(read_back(&texts), (Some(expected), 8));
        let long = [("nonce", "1".to_owned()), ("rest_url", "x".repeat(FACT_MAX_BYTES + 1))];
        assert_eq!(read_back(&long), (Some(Facts { nonce: 1, ..Facts::default() }), 1));
        assert_eq!(read_back(&long[1..]), (None, 1));
    }

    proptest! {
        #[test]
        fn any_texts_can_be_read(texts in proptest::collection::vec(".{0,40}|[0-9,]{0,30}", 10)) {
            let names = facts().texts().unwrap();
            let texts: Vec<_> = names.iter().map(|(name, _)| *name).zip(texts).collect();
            let _ = read_back(&texts);
        }
    }
}
