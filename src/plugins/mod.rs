//! Which plug-ins there are.

mod registry;

pub use registry::{Plugin, PluginKind, Registry};
