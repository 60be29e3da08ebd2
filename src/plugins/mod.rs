//! Which plug-ins there are.

mod registry;

pub use registry::{LookupError, Plugin, PluginKind, Registry, VERSION};
