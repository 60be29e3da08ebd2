//! The traits in memory.

use std::sync::Arc;

use super::Backend;

/// The backend of this name in this process, made when it is first asked for.
pub fn open(_name: &str) -> Arc<dyn Backend> {
    unimplemented!()
}
