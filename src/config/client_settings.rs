//! From Java's client settings to librdkafka's. Pure: takes settings whose prefixes (`producer.`, `producer.override.` ...) are
//! resolved and stripped, and says for each of them what became of it.

mod definitions;
mod security;
mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use connect_api::{ConnectError, Props, Result};

pub use definitions::definition;
use table::{Action, Rule};

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

    /// Where librdkafka's default differs from what a Java client of a Connect worker does, and the difference shows: which
    /// records a consumer sees, which partition a key goes to, how large a record may be.
    pub fn java_defaults(self) -> &'static [(&'static str, &'static str)] {
        match self {
            ClientKind::Producer => {
                &[("partitioner", "murmur2_random"), ("message.max.bytes", "1048576"), ("acks", "all")]
            }
            ClientKind::Consumer => &[
                ("isolation.level", "read_uncommitted"),
                ("enable.auto.commit", "false"),
                ("auto.offset.reset", "earliest"),
            ],
            ClientKind::Admin => &[],
        }
    }
}

/// What a client is made with.
#[derive(Clone, Default, PartialEq)]
pub struct ClientSettings {
    /// librdkafka's names and values, without [`ClientKind::java_defaults`].
    pub settings: BTreeMap<String, String>,
    /// `buffer.memory`: how many bytes may wait to be sent.
    pub buffer_memory_bytes: Option<u64>,
    /// `max.poll.records`: how many records one batch of a sink has at most.
    pub max_poll_records: Option<usize>,
    /// One sentence for each setting that has no effect here although it would have one in Java.
    pub warnings: Vec<String>,
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

/// Translates settings. An error of kind Config names every setting that cannot be honoured.
pub fn client_settings(kind: ClientKind, props: &Props) -> Result<ClientSettings> {
    let mut made = ClientSettings::default();
    let mut errors = Vec::new();
    for (name, value) in props {
        let value = value.trim();
        let result = match table::rule(kind, name) {
            _ if security::is_about(name) => Ok(()),
            Some(rule) => apply(rule, value, &mut made),
            None => {
                made.warnings.push(format!("{name} is no setting that is known here; it has no effect"));
                Ok(())
            }
        };
        if let Err(why) = result {
            errors.push(format!("{name}: {why}"));
        }
    }
    security::apply(props, &mut made, &mut errors);
    fit_to_each_other(&mut made.settings);
    if errors.is_empty() { Ok(made) } else { Err(ConnectError::config(errors.join("; "))) }
}

fn apply(rule: &Rule, value: &str, made: &mut ClientSettings) -> std::result::Result<(), String> {
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
        Action::Silent => {}
        Action::Dropped(why) => made.warnings.push(format!("{} has no effect: {why}", rule.java)),
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
