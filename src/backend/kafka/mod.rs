//! The traits over Kafka. The only room that names the Kafka client.

use std::sync::Arc;

use super::{Backend, ClientSettings, Result};

/// Connects lazily to the brokers.
pub fn open(_bootstrap_servers: &str, _settings: &ClientSettings) -> Result<Arc<dyn Backend>> {
    unimplemented!()
}
