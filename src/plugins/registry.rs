//! One explicit list of plug-ins: class names, aliases, versions, constructors.

use connect_api::{
    Converter, HeaderConverter, Predicate, SinkConnector, SinkTask, SourceConnector, SourceTask, Transformation,
};

/// What a plug-in is, with how to make one.
#[derive(Clone, Copy)]
pub enum PluginKind {
    /// A connector that reads from elsewhere, and its tasks.
    Source(fn() -> Box<dyn SourceConnector>, fn() -> Box<dyn SourceTask>),
    /// A connector that writes to elsewhere, and its tasks.
    Sink(fn() -> Box<dyn SinkConnector>, fn() -> Box<dyn SinkTask>),
    /// Between data and bytes.
    Converter(fn() -> Box<dyn Converter>),
    /// Between header values and bytes.
    HeaderConverter(fn() -> Box<dyn HeaderConverter>),
    /// Changes records.
    Transformation(fn() -> Box<dyn Transformation>),
    /// Chooses records.
    Predicate(fn() -> Box<dyn Predicate>),
}

/// One plug-in.
#[derive(Clone, Copy)]
pub struct Plugin {
    /// Java's full class name, which configurations carry.
    pub class: &'static str,
    /// Java's full class name of the task, where it is a connector; it stands in task configurations.
    pub task_class: Option<&'static str>,
    /// Its version.
    pub version: &'static str,
    /// What it is, and how to make one.
    pub kind: PluginKind,
}

/// All plug-ins of this worker.
#[derive(Clone)]
pub struct Registry {
    plugins: Vec<Plugin>,
}

impl Registry {
    /// Exactly these plug-ins; tests add theirs to [`Registry::built_in`].
    pub fn new(plugins: Vec<Plugin>) -> Self {
        Registry { plugins }
    }

    /// The plug-ins that connect-node brings. A new one is its file and one line here.
    pub fn built_in() -> Self {
        Registry::new(vec![])
    }

    /// All plug-ins in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.iter()
    }
}
