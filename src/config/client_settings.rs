//! From Java's client settings to librdkafka's. Pure: takes settings whose prefixes (`producer.`, `producer.override.` ...) are
//! resolved and stripped, and says for each of them what became of it.

mod definitions;
mod jaas;
mod pem;
mod security;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use connect_api::{ConnectError, Props, Result};

pub use definitions::definition;
use table::{Action, Rule};

pub use table::OTHER_DEFAULTS;

/// Which client the settings are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// Writes records.
    Producer,
    /// Reads records.
    Consumer,
    /// Creates and describes topics.
    Admin,
}

impl ClientKind {
    /// The prefix in worker configurations; `producer.override.` and so on in connector configurations.
    pub fn prefix(self) -> &'static str {
        match self {
            ClientKind::Producer => "producer.",
            ClientKind::Consumer => "consumer.",
            ClientKind::Admin => "admin.",
        }
    }
}

/// What becomes of a setting of Java's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It does what it does in Java, or what the note beside it says.
    Honoured,
    /// It is accepted and does nothing, for a reason.
    NoEffect,
    /// It is accepted and does nothing yet; a value that asks for something is worth a warning.
    NotYet,
    /// It ends the start, or the creation of a connector, where it asks for something.
    Refused,
}

impl Standing {
    /// As documents have it.
    pub fn word(self) -> &'static str {
        match self {
            Standing::Honoured => "honoured",
            Standing::NoEffect => "no effect",
            Standing::NotYet => "not yet",
            Standing::Refused => "refused",
        }
    }
}

/// A setting and what there is to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Java's name, without the prefix of a kind of client.
    pub name: String,
    /// Never with the value of a secret.
    pub why: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.name, self.why)
    }
}

/// What a client is made with.
#[derive(Clone, Default, PartialEq)]
pub struct ClientSettings {
    /// librdkafka's names and values.
    pub settings: BTreeMap<String, String>,
    /// `buffer.memory`: how many bytes may wait to be sent.
    pub buffer_memory_bytes: Option<u64>,
    /// `max.poll.records`: how many records one batch of a sink has at most.
    pub max_poll_records: Option<usize>,
    /// Settings that do not have the effect that they would have in Java.
    pub warnings: Vec<Problem>,
}

/// Secrets stay hidden.
impl std::fmt::Debug for ClientSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shown = |name: &str, value: &str| match is_secret(name) {
            true => connect_api::config_def::HIDDEN.to_owned(),
            false => value.to_owned(),
        };
        let settings: BTreeMap<_, _> = self.settings.iter().map(|(name, value)| (name, shown(name, value))).collect();
        f.debug_struct("ClientSettings")
            .field("settings", &settings)
            .field("buffer_memory_bytes", &self.buffer_memory_bytes)
            .field("max_poll_records", &self.max_poll_records)
            .field("warnings", &self.warnings)
            .finish()
    }
}

/// Whether the value of a setting, in Java's or librdkafka's name, must not be shown.
pub fn is_secret(name: &str) -> bool {
    ["password", "secret", "jaas", ".key", ".pem", "passphrase"].iter().any(|part| name.contains(part))
}

/// The settings that are known for this kind of client; those of all kinds with [`ClientKind::Admin`] alone. A name that ends in a point stands
/// for all that begin with it.
pub fn client_names(kind: ClientKind) -> Vec<&'static str> {
    let common: Vec<_> = table::rules(ClientKind::Admin).map(|rule| rule.java).collect();
    match kind {
        ClientKind::Admin => common.into_iter().chain(security::TABLE.iter().map(|(name, ..)| *name)).collect(),
        _ => table::rules(kind).map(|rule| rule.java).filter(|name| !common.contains(name)).collect(),
    }
}

/// Whether a setting is about TLS or about logging in.
pub fn is_security(name: &str) -> bool {
    security::is_about(name)
}

/// Translates settings. An error of kind Config names every setting that cannot be honoured.
pub fn client_settings(kind: ClientKind, props: &Props) -> Result<ClientSettings> {
    let (made, problems) = translate(kind, props);
    if problems.is_empty() {
        return Ok(made);
    }
    let problems: Vec<String> = problems.iter().map(Problem::to_string).collect();
    Err(ConnectError::config(problems.join("; ")))
}

/// Translates settings, and says for each that cannot be honoured why.
pub fn translate(kind: ClientKind, props: &Props) -> (ClientSettings, Vec<Problem>) {
    let mut made = ClientSettings::default();
    let mut errors = Vec::new();
    for (name, value) in props.iter().filter(|(name, _)| !security::is_about(name)) {
        let result = match table::rule(kind, name) {
            Some(rule) => apply(rule, value.trim(), props, &mut made),
            None => {
                made.warnings.push(Problem { name: name.clone(), why: "no setting of this name is known".to_owned() });
                Ok(())
            }
        };
        if let Err(why) = result {
            errors.push(Problem { name: name.clone(), why });
        }
    }
    security::apply(props, &mut made, &mut errors);
    fit_to_each_other(&mut made.settings);
    (made, errors)
}

/// What becomes of a setting of this kind of client, and a note; `None` where neither Java nor this program knows it.
pub fn standing(kind: ClientKind, name: &str) -> Option<(Standing, String)> {
    if security::is_about(name) {
        return security::standing(name).map(|(standing, why)| (standing, why.to_owned()));
    }
    let rule = table::rule(kind, name)?;
    let honoured = |note: String| (Standing::Honoured, note);
    Some(match &rule.action {
        Action::Text | Action::Boolean | Action::SocketBuffer(_) => honoured(String::new()),
        Action::Word(words) => honoured(words.join(", ")),
        Action::Number { min, max, .. } if *max == i64::from(i32::MAX) => honoured(format!("from {min} on")),
        Action::Number { min, max, .. } => honoured(format!("{min} to {max}; beyond it the nearest counts")),
        Action::BufferMemory => honoured("bytes of one task's records that wait for acknowledgement".into()),
        Action::MaxPollRecords => honoured("records in one `put`".into()),
        Action::OffsetReset => honoured("earliest (the default of sinks), latest or none".into()),
        Action::CompressionLevel(codec, max) => honoured(format!("with `compression.type={codec}`, at most {max}")),
        Action::Silent(why) | Action::Dropped(why) => (Standing::NoEffect, (*why).to_owned()),
        Action::Fixed(words, why) => (Standing::NoEffect, format!("always {}: {why}", words[0])),
        Action::Refused(why) => (Standing::Refused, (*why).to_owned()),
    })
}

fn apply(rule: &Rule, value: &str, props: &Props, made: &mut ClientSettings) -> std::result::Result<(), String> {
    let mut set = |name: &str, value: String| {
        made.settings.insert(name.to_owned(), value);
    };
    match &rule.action {
        Action::Text => set(rule.java, value.to_owned()),
        Action::Word(words) => {
            let word = value.to_ascii_lowercase();
            if !words.contains(&word.as_str()) {
                return Err(format!("must be one of {}, but is {value:?}", words.join(", ")));
            }
            set(rule.java, word);
        }
        Action::Number { names, min, max } => {
            let number = number(value)?.clamp(*min, *max);
            names.iter().for_each(|name| set(name, number.to_string()));
        }
        Action::Boolean => {
            let word = value.to_ascii_lowercase();
            if word != "true" && word != "false" {
                return Err(format!("must be true or false, but is {value:?}"));
            }
            set(rule.java, word);
        }
        // In librdkafka 0 means what -1 means in Java: the system decides.
        Action::SocketBuffer(name) => set(name, number(value)?.clamp(0, 100_000_000).to_string()),
        Action::BufferMemory => {
            let bytes = u64::try_from(number(value)?).map_err(|_| "must not be negative".to_owned())?;
            made.buffer_memory_bytes = Some(bytes);
            // The bound in bytes is ours; librdkafka's, in KiB, only has to be no smaller.
            let kib = bytes.div_ceil(1024).clamp(1, 2_147_483_647);
            made.settings.insert("queue.buffering.max.kbytes".to_owned(), kib.to_string());
        }
        Action::MaxPollRecords => {
            let records = usize::try_from(number(value)?).ok().filter(|&records| records > 0);
            made.max_poll_records = Some(records.ok_or("must be at least 1")?);
        }
        Action::OffsetReset => match value.to_ascii_lowercase().as_str() {
            word @ ("earliest" | "latest") => set(rule.java, word.to_owned()),
            "none" => set(rule.java, "error".to_owned()),
            _ => return Err(format!("must be earliest, latest or none, but is {value:?}")),
        },
        Action::CompressionLevel(codec, max) => {
            let level = number(value)?.clamp(-1, *max);
            if props.get("compression.type").is_some_and(|text| text.trim().eq_ignore_ascii_case(codec)) {
                set("compression.level", level.to_string());
            }
        }
        Action::Silent(_) => {}
        Action::Fixed(words, _) if words.iter().any(|word| word.eq_ignore_ascii_case(value)) => {}
        Action::Fixed(_, why) | Action::Dropped(why) => {
            made.warnings.push(Problem { name: rule.java.to_owned(), why: format!("it has no effect: {why}") });
        }
        Action::Refused(_) if value.is_empty() => {}
        Action::Refused(why) => return Err((*why).to_owned()),
    }
    Ok(())
}

fn number(value: &str) -> std::result::Result<i64, String> {
    value.parse().map_err(|_| format!("must be an integer, but is {value:?}"))
}

/// librdkafka refuses combinations that Java accepts.
fn fit_to_each_other(settings: &mut BTreeMap<String, String>) {
    /// What librdkafka needs above `fetch.max.bytes`.
    const RESPONSE_OVERHEAD_BYTES: i64 = 512;
    const DEFAULT_RECEIVE_BYTES: i64 = 100_000_000;
    const DEFAULT_RECONNECT_MAX_MS: i64 = 10_000;
    let read = |settings: &BTreeMap<String, String>, name: &str| -> Option<i64> { settings.get(name)?.parse().ok() };
    if let Some(fetch) = read(settings, "fetch.max.bytes")
        && fetch + RESPONSE_OVERHEAD_BYTES > DEFAULT_RECEIVE_BYTES
    {
        settings.insert("receive.message.max.bytes".to_owned(), (fetch + RESPONSE_OVERHEAD_BYTES).to_string());
    }
    if let Some(first) = read(settings, "reconnect.backoff.ms")
        && first > read(settings, "reconnect.backoff.max.ms").unwrap_or(DEFAULT_RECONNECT_MAX_MS)
    {
        settings.insert("reconnect.backoff.max.ms".to_owned(), first.to_string());
    }
}
