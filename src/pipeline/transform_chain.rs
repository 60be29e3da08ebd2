//! The transformations of a connector, one behind the other, each for all records or for those that a predicate
//! chooses (KIP-66, KIP-585).

use std::collections::BTreeSet;
use std::fmt;

use connect_api::{ConnectError, Predicate, Props, Record, Result, Transformation};

/// Setting: the aliases of the transformations in their order, separated by commas.
pub const TRANSFORMS_CONFIG: &str = "transforms";
/// Setting: the aliases of the predicates, separated by commas.
pub const PREDICATES_CONFIG: &str = "predicates";
/// Setting below an alias: the class.
pub const TYPE_CONFIG: &str = "type";
/// Setting below the alias of a transformation: the alias of the predicate that chooses its records.
pub const PREDICATE_CONFIG: &str = "predicate";
/// Setting below the alias of a transformation: `true` where it sees the records that the predicate does not choose.
pub const NEGATE_CONFIG: &str = "negate";

/// One configured transformation.
pub struct Step {
    /// What the configuration calls it.
    pub alias: String,
    /// What it does.
    pub transformation: Box<dyn Transformation>,
    /// Which records it sees; `None`: all.
    pub predicate: Option<Box<dyn Predicate>>,
    /// Whether it sees the records that the predicate does not choose.
    pub negate: bool,
}

/// Which step failed, and why.
#[derive(Debug)]
pub struct ChainError {
    /// Its place in the chain, from 0.
    pub index: usize,
    /// What the configuration calls it.
    pub alias: String,
    /// What the transformation or its predicate said; its kind decides what happens.
    pub source: ConnectError,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "transformation '{}' (number {} of the chain) failed", self.alias, self.index + 1)
    }
}

impl std::error::Error for ChainError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Transformations in their order. An empty chain hands the record on and does nothing else.
#[derive(Default)]
pub struct TransformChain {
    steps: Vec<Step>,
}

impl TransformChain {
    /// A chain of configured transformations.
    pub fn new(steps: Vec<Step>) -> Self {
        TransformChain { steps }
    }

    /// The chain that a connector's configuration describes. The functions make a plug-in of a class name, or return `None`
    /// where there is no such class. Errors are of kind Config and name the setting, or are what a plug-in said of its settings.
    pub fn from_props(
        props: &Props,
        transformation: impl Fn(&str) -> Option<Box<dyn Transformation>>,
        predicate: impl Fn(&str) -> Option<Box<dyn Predicate>>,
    ) -> Result<Self> {
        let predicates = aliases(props, PREDICATES_CONFIG)?;
        let make_step = |alias: String| {
            let prefix = format!("{TRANSFORMS_CONFIG}.{alias}.");
            let mut settings = below(props, &prefix);
            let predicate_alias = settings.remove(PREDICATE_CONFIG);
            let negate = parse_negate(&prefix, settings.remove(NEGATE_CONFIG))?;
            let mut transformation = make(&prefix, &settings, "transformation", &transformation)?;
            transformation.configure(&settings).map_err(|error| in_settings(&prefix, error))?;
            let predicate = match predicate_alias {
                Some(name) => Some(make_predicate(props, &prefix, name.trim(), &predicates, &predicate)?),
                None => None,
            };
            Ok(Step { alias, transformation, predicate, negate })
        };
        let steps = aliases(props, TRANSFORMS_CONFIG)?.into_iter().map(make_step);
        Ok(TransformChain { steps: steps.collect::<Result<_>>()? })
    }

    /// Whether there is no transformation at all.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many transformations there are.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// What the transformations make of a record; `None` when one of them dropped it. The record is moved: who wants
    /// to try again after a retriable error keeps a clone.
    pub fn apply(&mut self, mut record: Record) -> std::result::Result<Option<Record>, ChainError> {
        for (index, step) in self.steps.iter_mut().enumerate() {
            match step.apply(record) {
                Ok(Some(changed)) => record = changed,
                Ok(None) => return Ok(None),
                Err(source) => return Err(ChainError { index, alias: step.alias.clone(), source }),
            }
        }
        Ok(Some(record))
    }
}

impl Step {
    fn apply(&mut self, record: Record) -> Result<Option<Record>> {
        let is_meant = match &mut self.predicate {
            Some(predicate) => predicate.test(&record)? != self.negate,
            None => true,
        };
        if is_meant { self.transformation.apply(record) } else { Ok(Some(record)) }
    }
}

fn make_predicate(
    props: &Props,
    transformation_prefix: &str,
    alias: &str,
    known: &[String],
    lookup: impl Fn(&str) -> Option<Box<dyn Predicate>>,
) -> Result<Box<dyn Predicate>> {
    if !known.iter().any(|known| known == alias) {
        return Err(ConnectError::config(format!(
            "{transformation_prefix}{PREDICATE_CONFIG} is '{alias}', which is not listed in {PREDICATES_CONFIG}"
        )));
    }
    let prefix = format!("{PREDICATES_CONFIG}.{alias}.");
    let settings = below(props, &prefix);
    let mut predicate = make(&prefix, &settings, "predicate", lookup)?;
    predicate.configure(&settings).map_err(|error| in_settings(&prefix, error))?;
    Ok(predicate)
}

fn make<T>(prefix: &str, settings: &Props, kind: &str, lookup: impl Fn(&str) -> Option<T>) -> Result<T> {
    let class = match settings.get(TYPE_CONFIG).map(|class| class.trim()) {
        Some(class) if !class.is_empty() => class,
        _ => {
            return Err(ConnectError::config(format!(
                "{prefix}{TYPE_CONFIG} is missing; it must be the class of a {kind}"
            )));
        }
    };
    lookup(class)
        .ok_or_else(|| ConnectError::config(format!("{prefix}{TYPE_CONFIG} is '{class}', which is no known {kind}")))
}

/// Keeps the kind of a plug-in's error and says whose settings it is about.
fn in_settings(prefix: &str, error: ConnectError) -> ConnectError {
    ConnectError::new(error.kind(), format!("the settings below {prefix} are wrong: {error}")).caused_by(error)
}

fn parse_negate(prefix: &str, text: Option<String>) -> Result<bool> {
    match text.as_deref().map(str::trim) {
        None => Ok(false),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => {
            Err(ConnectError::config(format!("{prefix}{NEGATE_CONFIG} is '{other}'; it must be true or false")))
        }
    }
}

/// The names in a list; nothing at all is an empty list.
fn aliases(props: &Props, setting: &str) -> Result<Vec<String>> {
    let text = props.get(setting).map_or("", |text| text.trim());
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let aliases: Vec<String> = text.split(',').map(|alias| alias.trim().to_owned()).collect();
    let mut seen = BTreeSet::new();
    for alias in &aliases {
        if alias.is_empty() {
            return Err(ConnectError::config(format!("{setting} is '{text}', which has an empty name in it")));
        }
        if !seen.insert(alias) {
            return Err(ConnectError::config(format!("{setting} names '{alias}' twice")));
        }
    }
    Ok(aliases)
}

/// The settings that begin with a prefix, without it.
fn below(props: &Props, prefix: &str) -> Props {
    let from = props.range(prefix.to_owned()..);
    from.map_while(|(name, value)| Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use connect_api::{ConfigDef, ErrorKind, SchemaAndValue};

    use super::*;

    /// Appends a suffix to the topic; drops the topic `drop` and fails on `fail`.
    #[derive(Default)]
    struct Suffix(String);

    impl Transformation for Suffix {
        fn config(&self) -> ConfigDef {
            ConfigDef::new()
        }

        fn configure(&mut self, props: &Props) -> Result<()> {
            assert!(!props.contains_key(PREDICATE_CONFIG) && !props.contains_key(NEGATE_CONFIG));
            self.0 = props.get("suffix").cloned().ok_or_else(|| ConnectError::config("suffix is missing"))?;
            Ok(())
        }

        fn apply(&mut self, mut record: Record) -> Result<Option<Record>> {
            match &*record.topic {
                "drop" => Ok(None),
                "fail" => Err(ConnectError::retriable("failed")),
                topic => {
                    record.topic = format!("{topic}{}", self.0).into();
                    Ok(Some(record))
                }
            }
        }
    }

    /// Chooses topics that begin with a prefix.
    #[derive(Default)]
    struct Begins(String);

    impl Predicate for Begins {
        fn config(&self) -> ConfigDef {
            ConfigDef::new()
        }

        fn configure(&mut self, props: &Props) -> Result<()> {
            self.0 = props["prefix"].clone();
            Ok(())
        }

        fn test(&mut self, record: &Record) -> Result<bool> {
            match &*record.topic {
                "unclear" => Err(ConnectError::data("cannot say")),
                topic => Ok(topic.starts_with(&self.0)),
            }
        }
    }

    fn chain(settings: &[(&str, &str)]) -> Result<TransformChain> {
        let props = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        TransformChain::from_props(
            &props,
            |class| (class == "Suffix").then(|| Box::<Suffix>::default() as Box<dyn Transformation>),
            |class| (class == "Begins").then(|| Box::<Begins>::default() as Box<dyn Predicate>),
        )
    }

    fn applied(chain: &mut TransformChain, topic: &str) -> Option<String> {
        chain.apply(record(topic)).unwrap().map(|record| record.topic.to_string())
    }

    fn record(topic: &str) -> Record {
        Record::new(topic, SchemaAndValue::NULL)
    }

    const TWO: &[(&str, &str)] = &[
        ("transforms", "b, a"),
        ("transforms.a.type", "Suffix"),
        ("transforms.a.suffix", "A"),
        ("transforms.b.type", " Suffix "),
        ("transforms.b.suffix", "B"),
    ];

    #[test]
    fn transformations_follow_the_order_of_the_list() {
        let mut chain = chain(TWO).unwrap();
        assert_eq!(applied(&mut chain, "t"), Some("tBA".to_owned()));
        assert_eq!(applied(&mut chain, "drop"), None);
    }

    #[test]
    fn an_empty_chain_hands_the_record_on() {
        for settings in [&[][..], &[("transforms", " ")]] {
            let mut chain = chain(settings).unwrap();
            assert!(chain.is_empty());
            assert_eq!(applied(&mut chain, "t"), Some("t".to_owned()));
        }
    }

    #[test]
    fn predicates_choose_and_negate_turns_them_round() {
        let with = |negate| {
            let mut settings = TWO.to_vec();
            settings.extend([
                ("predicates", "p"),
                ("predicates.p.type", "Begins"),
                ("predicates.p.prefix", "x"),
                ("transforms.a.predicate", "p"),
                ("transforms.a.negate", negate),
            ]);
            chain(&settings).unwrap()
        };
        assert_eq!(applied(&mut with("false"), "x"), Some("xBA".to_owned()));
        assert_eq!(applied(&mut with("false"), "t"), Some("tB".to_owned()));
        assert_eq!(applied(&mut with(" TRUE"), "x"), Some("xB".to_owned()));
        assert_eq!(applied(&mut with("true"), "t"), Some("tBA".to_owned()));
    }

    #[test]
    fn errors_name_the_step() {
        let mut settings = TWO.to_vec();
        settings.extend([
            ("predicates", "p"),
            ("predicates.p.type", "Begins"),
            ("predicates.p.prefix", ""),
            ("transforms.a.predicate", "p"),
        ]);
        let mut chain = chain(&settings).unwrap();
        let error = chain.apply(record("fail")).unwrap_err();
        assert_eq!((error.index, error.alias.as_str(), error.source.kind()), (0, "b", ErrorKind::Retriable));
        chain.steps.remove(0);
        let error = chain.apply(record("unclear")).unwrap_err();
        assert_eq!((error.index, error.alias.as_str(), error.source.kind()), (0, "a", ErrorKind::Data));
        assert_eq!(error.to_string(), "transformation 'a' (number 1 of the chain) failed");
    }

    #[test]
    fn wrong_settings_are_named() {
        let cases: &[(&[(&str, &str)], &str)] = &[
            (&[("transforms", "a")], "transforms.a.type is missing"),
            (&[("transforms", "a"), ("transforms.a.type", "Nope")], "transforms.a.type is 'Nope'"),
            (&[("transforms", "a,,b")], "empty name"),
            (&[("transforms", "a,b,a")], "'a' twice"),
            (&[("transforms", "a"), ("transforms.a.type", "Suffix")], "transforms.a. are wrong: suffix is missing"),
            (&[("transforms", "a"), ("transforms.a.negate", "maybe")], "transforms.a.negate is 'maybe'"),
            (
                &[
                    ("transforms", "a"),
                    ("transforms.a.type", "Suffix"),
                    ("transforms.a.suffix", "A"),
                    ("transforms.a.predicate", "p"),
                ],
                "transforms.a.predicate is 'p', which is not listed in predicates",
            ),
        ];
        for (settings, message) in cases {
            let error = chain(settings).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Config);
            assert!(error.message().contains(message), "{error}");
        }
    }

    #[test]
    fn aliases_that_begin_alike_keep_their_own_settings() {
        let mut chain = chain(&[
            ("transforms", "a,ab"),
            ("transforms.a.type", "Suffix"),
            ("transforms.a.suffix", "1"),
            ("transforms.ab.type", "Suffix"),
            ("transforms.ab.suffix", "2"),
        ])
        .unwrap();
        assert_eq!(applied(&mut chain, "t"), Some("t12".to_owned()));
    }
}
