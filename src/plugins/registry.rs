//! One explicit list of plug-ins: class names, aliases, versions, constructors.

use connect_api::{
    Converter, HeaderConverter, Predicate, SinkConnector, SinkTask, SourceConnector, SourceTask, Transformation,
};

use crate::converters::{byte_array, json, numbers, simple_header, string};

use twox_hash::XxHash3_64;

use crate::connectors::{datagen_source, directory_source, file_sink, file_source, verifiable_sink, verifiable_source};

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

impl PluginKind {
    /// The word in `GET /connector-plugins`.
    pub fn as_str(&self) -> &'static str {
        match self {
            PluginKind::Source(..) => "source",
            PluginKind::Sink(..) => "sink",
            PluginKind::Converter(_) => "converter",
            PluginKind::HeaderConverter(_) => "header_converter",
            PluginKind::Transformation(_) => "transformation",
            PluginKind::Predicate(_) => "predicate",
        }
    }
}

/// The version of connect-node, and of the plug-ins that are its own.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of Kafka whose plug-ins those with its class names behave like, and have as their own version.
pub const KAFKA_VERSION: &str = "4.3.0";

const fn version_of(class: &str) -> &'static str {
    match class.as_bytes().split_first_chunk::<17>() {
        Some((b"org.apache.kafka.", _)) => KAFKA_VERSION,
        _ => VERSION,
    }
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

impl Plugin {
    /// A source connector. Wrap the two constructors in closures: `|| Box::new(MyConnector::default())`.
    pub const fn source(
        class: &'static str,
        connector: fn() -> Box<dyn SourceConnector>,
        task_class: &'static str,
        task: fn() -> Box<dyn SourceTask>,
    ) -> Self {
        Plugin {
            class,
            task_class: Some(task_class),
            version: version_of(class),
            kind: PluginKind::Source(connector, task),
        }
    }

    /// A sink connector.
    pub const fn sink(
        class: &'static str,
        connector: fn() -> Box<dyn SinkConnector>,
        task_class: &'static str,
        task: fn() -> Box<dyn SinkTask>,
    ) -> Self {
        Plugin {
            class,
            task_class: Some(task_class),
            version: version_of(class),
            kind: PluginKind::Sink(connector, task),
        }
    }

    /// A converter of keys and values.
    pub const fn converter(class: &'static str, make: fn() -> Box<dyn Converter>) -> Self {
        Plugin { class, task_class: None, version: version_of(class), kind: PluginKind::Converter(make) }
    }

    /// A header converter; a class that converts both has two lines.
    pub const fn header_converter(class: &'static str, make: fn() -> Box<dyn HeaderConverter>) -> Self {
        Plugin { class, task_class: None, version: version_of(class), kind: PluginKind::HeaderConverter(make) }
    }

    /// A transformation.
    pub const fn transformation(class: &'static str, make: fn() -> Box<dyn Transformation>) -> Self {
        Plugin { class, task_class: None, version: version_of(class), kind: PluginKind::Transformation(make) }
    }

    /// A predicate.
    pub const fn predicate(class: &'static str, make: fn() -> Box<dyn Predicate>) -> Self {
        Plugin { class, task_class: None, version: version_of(class), kind: PluginKind::Predicate(make) }
    }

    /// Whether it is a connector.
    pub fn is_connector(&self) -> bool {
        matches!(self.kind, PluginKind::Source(..) | PluginKind::Sink(..))
    }

    /// The class name without its package.
    pub fn simple_name(&self) -> &'static str {
        self.class.rsplit('.').next().unwrap_or(self.class)
    }

    /// The simple name without the ending that says what it is, as Java shortens it; `None` when there is no such ending.
    fn short_name(&self) -> Option<&'static str> {
        let endings: &[&str] = match self.kind {
            PluginKind::Source(..) | PluginKind::Sink(..) => &["Connector"],
            PluginKind::Converter(_) => &["Converter"],
            PluginKind::HeaderConverter(_) => &["HeaderConverter", "Converter"],
            PluginKind::Transformation(_) => &["Transformation"],
            PluginKind::Predicate(_) => &["Predicate"],
        };
        endings.iter().find_map(|ending| self.simple_name().strip_suffix(ending)).filter(|short| !short.is_empty())
    }

    /// Whether configurations may call it this. Nested classes (`Cast$Value`) have their full name only, as in Java.
    fn is_called(&self, name: &str) -> bool {
        let alias = self.simple_name() == name || self.short_name() == Some(name);
        self.class == name || (alias && !self.class.contains('$'))
    }
}

/// Why a name leads to no plug-in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No plug-in is called that.
    #[error("there is no {wanted} {name:?}; installed are: {installed}")]
    Unknown {
        /// What was looked for: connector, converter...
        wanted: &'static str,
        /// The name.
        name: String,
        /// Class names of all that were looked at.
        installed: String,
    },
    /// Several plug-ins are called that.
    #[error("{name:?} may mean any of {classes}; use the full class name")]
    Ambiguous {
        /// The name.
        name: String,
        /// Class names of all that it may mean.
        classes: String,
    },
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
        Registry::new(vec![
            Plugin::converter(byte_array::CLASS, || Box::new(byte_array::ByteArrayConverter::default())),
            Plugin::header_converter(byte_array::CLASS, || Box::new(byte_array::ByteArrayConverter::default())),
            Plugin::converter(json::CLASS, || Box::new(json::JsonConverter::default())),
            Plugin::header_converter(json::CLASS, || Box::new(json::JsonConverter::default())),
            Plugin::converter(numbers::BooleanConverter::CLASS, || Box::new(numbers::BooleanConverter::default())),
            Plugin::header_converter(numbers::BooleanConverter::CLASS, || {
                Box::new(numbers::BooleanConverter::default())
            }),
            Plugin::converter(numbers::DoubleConverter::CLASS, || Box::new(numbers::DoubleConverter::default())),
            Plugin::header_converter(numbers::DoubleConverter::CLASS, || Box::new(numbers::DoubleConverter::default())),
            Plugin::converter(numbers::FloatConverter::CLASS, || Box::new(numbers::FloatConverter::default())),
            Plugin::header_converter(numbers::FloatConverter::CLASS, || Box::new(numbers::FloatConverter::default())),
            Plugin::converter(numbers::IntegerConverter::CLASS, || Box::new(numbers::IntegerConverter::default())),
            Plugin::header_converter(numbers::IntegerConverter::CLASS, || {
                Box::new(numbers::IntegerConverter::default())
            }),
            Plugin::converter(numbers::LongConverter::CLASS, || Box::new(numbers::LongConverter::default())),
            Plugin::header_converter(numbers::LongConverter::CLASS, || Box::new(numbers::LongConverter::default())),
            Plugin::converter(numbers::ShortConverter::CLASS, || Box::new(numbers::ShortConverter::default())),
            Plugin::header_converter(numbers::ShortConverter::CLASS, || Box::new(numbers::ShortConverter::default())),
            Plugin::header_converter(
                simple_header::CLASS,
                || Box::new(simple_header::SimpleHeaderConverter::default()),
            ),
            Plugin::converter(string::CLASS, || Box::new(string::StringConverter::default())),
            Plugin::header_converter(string::CLASS, || Box::new(string::StringConverter::default())),
            Plugin::source(
                file_source::CLASS,
                || Box::<file_source::FileStreamSourceConnector>::default(),
                file_source::TASK_CLASS,
                || Box::<file_source::FileStreamSourceTask>::default(),
            ),
            Plugin::sink(
                file_sink::CLASS,
                || Box::<file_sink::FileStreamSinkConnector>::default(),
                file_sink::TASK_CLASS,
                || Box::<file_sink::FileStreamSinkTask>::default(),
            ),
            Plugin::source(
                datagen_source::CLASS,
                || Box::<datagen_source::DatagenSourceConnector>::default(),
                datagen_source::TASK_CLASS,
                || Box::<datagen_source::DatagenSourceTask>::default(),
            ),
            Plugin::source(
                directory_source::CLASS,
                || Box::<directory_source::DirectorySourceConnector>::default(),
                directory_source::TASK_CLASS,
                || Box::<directory_source::DirectorySourceTask>::default(),
            ),
            Plugin::source(
                verifiable_source::CLASS,
                || Box::<verifiable_source::VerifiableSourceConnector>::default(),
                verifiable_source::TASK_CLASS,
                || Box::<verifiable_source::VerifiableSourceTask>::default(),
            ),
            Plugin::sink(
                verifiable_sink::CLASS,
                || Box::<verifiable_sink::VerifiableSinkConnector>::default(),
                verifiable_sink::TASK_CLASS,
                || Box::<verifiable_sink::VerifiableSinkTask>::default(),
            ),
        ])
    }

    /// A hash of their names and versions: workers with the same one can run the same connectors.
    pub fn fingerprint(&self) -> u64 {
        let mut names: Vec<String> =
            self.plugins.iter().map(|plugin| format!("{} {}\n", plugin.class, plugin.version)).collect();
        names.sort_unstable();
        XxHash3_64::oneshot(names.concat().as_bytes())
    }

    /// All plug-ins in the order of the list.
    pub fn iter(&self) -> impl Iterator<Item = &Plugin> {
        self.plugins.iter()
    }

    /// The connector that `connector.class` names: by its full class name, its simple name, or its simple name without
    /// `Connector`. Letter case counts; blanks around the name do not.
    pub fn find(&self, name: &str) -> Result<&Plugin, LookupError> {
        self.find_where("connector", name, Plugin::is_connector)
    }

    /// The converter of keys and values that a configuration names, in the same three ways.
    pub fn find_converter(&self, name: &str) -> Result<&Plugin, LookupError> {
        self.find_where("converter", name, |plugin| matches!(plugin.kind, PluginKind::Converter(_)))
    }

    /// The header converter that a configuration names, in the same three ways.
    pub fn find_header_converter(&self, name: &str) -> Result<&Plugin, LookupError> {
        self.find_where("header converter", name, |plugin| matches!(plugin.kind, PluginKind::HeaderConverter(_)))
    }

    /// The transformation that a configuration names, by its full class name or its simple name.
    pub fn find_transformation(&self, name: &str) -> Result<&Plugin, LookupError> {
        self.find_where("transformation", name, |plugin| matches!(plugin.kind, PluginKind::Transformation(_)))
    }

    /// The predicate that a configuration names, by its full class name or its simple name.
    pub fn find_predicate(&self, name: &str) -> Result<&Plugin, LookupError> {
        self.find_where("predicate", name, |plugin| matches!(plugin.kind, PluginKind::Predicate(_)))
    }

    /// The connector whose tasks have this class, by its full name: that is what stands in task configurations.
    pub fn find_task_class(&self, class: &str) -> Result<&Plugin, LookupError> {
        let found = self.plugins.iter().find(|plugin| plugin.task_class == Some(class.trim()));
        found.ok_or_else(|| LookupError::Unknown {
            wanted: "task class",
            name: class.to_owned(),
            installed: joined(self.plugins.iter().filter_map(|plugin| plugin.task_class)),
        })
    }

    fn find_where(
        &self,
        wanted: &'static str,
        name: &str,
        fits: impl Fn(&Plugin) -> bool,
    ) -> Result<&Plugin, LookupError> {
        let trimmed = name.trim();
        let candidates = || self.plugins.iter().filter(|plugin| fits(plugin));
        // A full name always means itself, even where it is the alias of another plug-in, too.
        if let Some(exact) = candidates().find(|plugin| plugin.class == trimmed) {
            return Ok(exact);
        }
        let called: Vec<&Plugin> = candidates().filter(|plugin| plugin.is_called(trimmed)).collect();
        match called.as_slice() {
            [plugin] => Ok(plugin),
            [] => Err(LookupError::Unknown {
                wanted,
                name: name.to_owned(),
                installed: joined(candidates().map(|plugin| plugin.class)),
            }),
            several => Err(LookupError::Ambiguous {
                name: name.to_owned(),
                classes: joined(several.iter().map(|plugin| plugin.class)),
            }),
        }
    }
}

fn joined<'a>(classes: impl Iterator<Item = &'a str>) -> String {
    classes.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connector(class: &'static str) -> Plugin {
        let file_sink = *Registry::built_in().find("FileStreamSink").expect("built in");
        Plugin { class, ..file_sink }
    }

    #[test]
    fn connectors_have_three_names() {
        let registry = Registry::built_in();
        for name in [file_source::CLASS, "FileStreamSourceConnector", "FileStreamSource", " FileStreamSource "] {
            assert_eq!(registry.find(name).map(|plugin| plugin.class), Ok(file_source::CLASS), "{name}");
        }
        for name in [
            "org.apache.kafka.connect.file.FileStreamSource",
            "filestreamsource",
            file_source::TASK_CLASS,
            "FileStreamSourceTask",
            "Stream",
            "",
        ] {
            assert!(matches!(registry.find(name), Err(LookupError::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn tasks_are_found_by_their_class() {
        let registry = Registry::built_in();
        assert_eq!(registry.find_task_class(file_sink::TASK_CLASS).map(|plugin| plugin.class), Ok(file_sink::CLASS));
        assert!(registry.find_task_class("FileStreamSinkTask").is_err());
    }

    #[test]
    fn a_name_of_two_connectors_is_refused() {
        let registry = Registry::new(vec![connector("a.Orders"), connector("b.OrdersConnector"), connector("Orders")]);
        assert_eq!(registry.find("Orders").map(|plugin| plugin.class), Ok("Orders"), "a full name means itself");
        let registry = Registry::new(vec![connector("a.Orders"), connector("b.OrdersConnector")]);
        let error = registry.find("Orders").err();
        assert_eq!(
            error.map(|error| error.to_string()).as_deref(),
            Some("\"Orders\" may mean any of a.Orders, b.OrdersConnector; use the full class name")
        );
        assert_eq!(registry.find("OrdersConnector").map(|plugin| plugin.class), Ok("b.OrdersConnector"));
    }

    #[test]
    fn nested_classes_have_their_full_name_only() {
        let kind = connector("x").kind;
        let registry = Registry::new(vec![Plugin { kind, ..connector("a.Outer$Inner") }]);
        assert!(registry.find("a.Outer$Inner").is_ok());
        assert!(registry.find("Outer$Inner").is_err());
    }
}
