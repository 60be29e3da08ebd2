//! Structured logs: one line of text for each event, on stderr.
//!
//! A line carries the fields of the spans that it was written in: `worker`, `connector` and `task`, as Kafka Connect's log context does
//! (KIP-449). Spans are of the highest level, so that no filter takes the fields off its lines. Lines of the Kafka client arrive through the `log`
//! crate under the targets `librdkafka` and `rdkafka`; they are shown from warnings on unless the filter names these
//! targets.
//!
//! Absent on purpose: JSON lines, which would bring two further crates.

use std::io::{self, IsTerminal};
use std::str::FromStr;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The environment variable with the filter: a level (`info`), or targets with levels
/// (`warn,connect_node::rest=debug`).
pub const FILTER_VARIABLE: &str = "CONNECT_NODE_LOG";

/// What is shown when nothing is said.
pub const DEFAULT_LEVEL: LevelFilter = LevelFilter::INFO;

/// Targets of the Kafka client and the level from which they are shown by default.
const KAFKA_CLIENT: [(&str, LevelFilter); 2] = [("librdkafka", LevelFilter::WARN), ("rdkafka", LevelFilter::WARN)];

/// Why logs cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// The filter cannot be read.
    #[error(
        "{FILTER_VARIABLE}={filter:?} is no log filter ({reason}); write a level (error, warn, info, debug, trace, off) \
         or targets with levels, for example warn,connect_node::rest=debug"
    )]
    Filter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Somebody has installed a subscriber already.
    #[error("logging is already set up in this process")]
    AlreadySet,
}

/// Begins to write logs for the whole process. `filter` is the value of [`FILTER_VARIABLE`]; without one, or with an
/// empty one, [`DEFAULT_LEVEL`] applies. Colours only where stderr is a terminal.
pub fn init(filter: Option<&str>) -> Result<(), LoggingError> {
    let lines = fmt::layer().with_writer(io::stderr).with_ansi(io::stderr().is_terminal());
    tracing_subscriber::registry()
        .with(lines.with_filter(targets(filter)?))
        .try_init()
        .map_err(|_| LoggingError::AlreadySet)
}

fn targets(filter: Option<&str>) -> Result<Targets, LoggingError> {
    let filter = filter.map(str::trim).filter(|filter| !filter.is_empty());
    // the parser would take a mistyped level for a target and show all of it
    let bare = |directive: &&str| !directive.contains('=') && LevelFilter::from_str(directive).is_err();
    if let Some((filter, word)) = filter.and_then(|filter| Some((filter, filter.split(',').find(bare)?))) {
        let (filter, reason) = (filter.to_owned(), format!("{word:?} is no level"));
        return Err(LoggingError::Filter { filter, reason });
    }
    let asked = match filter {
        None => Targets::new(),
        Some(filter) => Targets::from_str(filter)
            .map_err(|error| LoggingError::Filter { filter: filter.to_owned(), reason: error.to_string() })?,
    };
    let default = asked.default_level().unwrap_or(DEFAULT_LEVEL);
    // a filter that is stricter in general is stricter for the client as well
    let client = KAFKA_CLIENT.map(|(target, level)| (target, level.min(default)));
    Ok(Targets::new()
        .with_default(default)
        .with_targets(client)
        .with_targets(asked.iter().map(|(t, l)| (t.to_owned(), l))))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::Level;

    use super::*;

    #[test]
    fn filters_keep_the_kafka_client_quiet_unless_named() {
        let shows = |filter: Option<&str>, target, level| targets(filter).unwrap().would_enable(target, &level);
        assert!(shows(None, "connect_node", Level::INFO) && !shows(None, "connect_node", Level::DEBUG));
        assert!(shows(Some(" "), "connect_node", Level::INFO));
        assert!(shows(Some("debug"), "connect_node", Level::DEBUG));
        assert!(shows(Some("debug"), "librdkafka", Level::WARN) && !shows(Some("debug"), "librdkafka", Level::INFO));
        assert!(shows(Some("info,librdkafka=debug"), "librdkafka", Level::DEBUG));
        assert!(!shows(Some("error"), "rdkafka::client", Level::WARN));
        assert!(!shows(Some("off"), "rdkafka", Level::ERROR) && !shows(Some("off"), "connect_node", Level::ERROR));
        assert!(shows(Some("warn,connect_node::rest=debug"), "connect_node::rest::routes", Level::DEBUG));
        assert!(!shows(Some("warn,connect_node::rest=debug"), "connect_node::actors", Level::INFO));
    }

    #[test]
    fn a_wrong_filter_is_explained() {
        let error = targets(Some("connect_node=loud")).unwrap_err().to_string();
        assert!(error.contains("CONNECT_NODE_LOG=\"connect_node=loud\"") && error.contains("for example"), "{error}");
        let error = targets(Some("warn,verbose")).unwrap_err().to_string();
        assert!(error.contains("\"verbose\" is no level"), "{error}");
    }

    #[test]
    fn lines_carry_worker_connector_and_task() {
        #[derive(Clone, Default)]
        struct Lines(Arc<Mutex<Vec<u8>>>);
        impl Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.lock().unwrap().write(bytes)
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = fmt::layer().with_writer(move || writer.clone()).with_ansi(false);
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(targets(Some("warn")).unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            let _worker = tracing::error_span!("worker", worker = "10.0.0.1:8083").entered();
            let _task = tracing::error_span!("task", connector = "orders", task = 3).entered();
            tracing::warn!(records = 5, "a batch was left out");
            tracing::info!("not shown");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        for part in
            ["WARN", "worker=\"10.0.0.1:8083\"", "connector=\"orders\"", "task=3", "records=5", "a batch was left out"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("not shown"));
    }
}
