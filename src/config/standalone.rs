//! The configuration of a standalone worker (Java: `StandaloneConfig`): that of any worker, with a file for offsets in the place of a
//! group and its topics.

use std::path::{Path, PathBuf};

use connect_api::{ConnectError, Props, Result};

use super::properties;
use super::worker::{ExactlyOnceSource, WorkerConfig};

/// The one setting of its own.
const OFFSET_FILE: &str = "offset.storage.file.filename";

/// Names the clients of the worker in the logs of brokers. No group of this name is ever made.
const CLIENT_NAME: &str = "connect-standalone";

/// Settings of distributed workers. They may stand in the file, since many people keep one file for both, and mean nothing.
const DISTRIBUTED_KEYS: &[&str] =
    &["group.id", "exactly.once.source.support", "worker.fence.timeout.ms", "scheduled.rebalance.max.delay.ms"];
const DISTRIBUTED_PREFIXES: &[&str] = &["config.storage.", "offset.storage.", "status.storage.", "cluster."];

/// The configuration of a standalone worker.
#[derive(Debug, Clone, PartialEq)]
pub struct StandaloneConfig {
    /// What all workers have. Group and storage topics are those that an empty file gives.
    pub worker: WorkerConfig,
    /// `offset.storage.file.filename`: where offsets of sources are kept. Relative to the working directory.
    pub offset_file: PathBuf,
}

impl StandaloneConfig {
    /// Reads a `.properties` file as Java does: Latin-1, with `\uXXXX` for everything else.
    pub fn read(path: &Path) -> Result<Self> {
        let place = path.display();
        let unreadable = |error: &dyn std::fmt::Display| {
            ConnectError::config(format!("cannot read the worker configuration {place}: {error}"))
        };
        let bytes = std::fs::read(path).map_err(|error| unreadable(&error))?;
        let props = properties::from_latin1(&bytes).map_err(|error| unreadable(&error))?;
        Self::from_props(props)
            .map_err(|error| ConnectError::config(format!("the worker configuration {place}: {error}")))
    }

    /// Types the settings; the error says what is wrong with them.
    pub fn from_props(mut props: Props) -> Result<Self> {
        props.retain(|name, _| name == OFFSET_FILE || !is_distributed(name));
        let mut worker = WorkerConfig::from_props(props)?;
        let offset_file = worker.props.get(OFFSET_FILE).map(|file| file.trim()).unwrap_or_default();
        if offset_file.is_empty() {
            return Err(ConnectError::config(format!(
                "{OFFSET_FILE} is not set: a standalone worker keeps the offsets of its sources in this file"
            )));
        }
        let offset_file = PathBuf::from(offset_file);
        worker.group_id = CLIENT_NAME.to_owned();
        worker.exactly_once_source = ExactlyOnceSource::Disabled;
        // It has no group and no topics that would have been left out.
        worker.defaulted.clear();
        // The file's name is no setting of a topic.
        worker.offset_storage.settings.clear();
        Ok(StandaloneConfig { worker, offset_file })
    }
}

fn is_distributed(name: &str) -> bool {
    DISTRIBUTED_KEYS.contains(&name) || DISTRIBUTED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn props(text: &str) -> Props {
        properties::from_text(text).expect("properties")
    }

    const SMALL: &str = "bootstrap.servers=a:1\nkey.converter=JsonConverter\nvalue.converter=x.Y\n";

    #[test]
    fn only_the_offset_file_is_needed_beyond_the_common_settings() {
        let config = StandaloneConfig::from_props(props(&format!("{SMALL}{OFFSET_FILE}= /tmp/o \n"))).unwrap();
        assert_eq!(config.offset_file, Path::new("/tmp/o"));
        assert_eq!(config.worker.unknown_keys, Vec::<String>::new());
        assert_eq!(config.worker.defaulted, []);
        assert!(config.worker.offset_storage.settings.is_empty());
        for without in [String::new(), format!("{OFFSET_FILE}=\n")] {
            let error = StandaloneConfig::from_props(props(&format!("{SMALL}{without}"))).unwrap_err();
            assert!(error.message().contains(OFFSET_FILE), "{error}");
        }
    }

    #[test]
    fn settings_of_distributed_workers_mean_nothing() {
        let config = StandaloneConfig::from_props(props(&format!(
            "{SMALL}{OFFSET_FILE}=o\ngroup.id=\nconfig.storage.topic=x\nstatus.storage.partitions=0\n\
             exactly.once.source.support=enabled\noffset.storage.replication.factor=many\nlisteners=http://:1\n"
        )))
        .unwrap();
        assert_eq!(config.worker.exactly_once_source, ExactlyOnceSource::Disabled);
        assert_eq!(config.worker.unknown_keys, Vec::<String>::new());
        assert_eq!(config.worker.listeners[0].port, 1);
        let error = StandaloneConfig::from_props(props(&format!("{OFFSET_FILE}=o\n"))).unwrap_err();
        assert!(error.message().contains("bootstrap.servers"), "{error}");
    }

    #[test]
    fn the_shipped_example_can_be_read() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/connect-standalone.properties");
        let config = StandaloneConfig::read(&path).unwrap();
        assert_eq!(config.worker.unknown_keys, Vec::<String>::new());
        assert_eq!(config.offset_file, Path::new("/tmp/connect.offsets"));
        let error = StandaloneConfig::read(Path::new("/no/such.properties")).unwrap_err();
        assert!(error.message().contains("/no/such.properties"), "{error}");
    }
}
