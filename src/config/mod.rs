//! Configurations as typed values: the worker's file, what all connectors share, what a Kafka client takes. Nobody else reads
//! files or the environment.

pub mod client_settings;
pub mod connector;
pub mod connector_file;
pub mod environment;
pub mod override_policy;
pub mod properties;
pub mod standalone;
pub mod worker;

pub use client_settings::{ClientKind, ClientSettings};
pub use connector::{ConfigInfo, ConfigInfos, ConnectorKind, validate_connector};
pub use standalone::StandaloneConfig;
pub use worker::WorkerConfig;
