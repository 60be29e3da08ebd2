//! Which plug-ins there are.

mod registry;
pub mod version;

pub use registry::{LookupError, Plugin, PluginKind, Registry, VERSION};
