//! A connector on the command line of a standalone worker (Java: `ConnectStandalone.parseConnectorConfigurationFile`).
//!
//! The content decides about the form, never the name of the file. Tried in this order: a JSON object of settings; a JSON object
//! with `name`, `config` and perhaps `initial_state`, as `POST /connectors` takes it; properties.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::properties;

/// Longest file that is read. Configurations have some thousand bytes.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

const NAME: &str = "name";

/// In which state a connector begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InitialState {
    /// It runs.
    Running,
    /// It and its tasks are there and do nothing.
    Paused,
    /// It has no tasks.
    Stopped,
}

impl InitialState {
    fn parse(text: &str) -> Result<InitialState, String> {
        match text.to_uppercase().as_str() {
            "RUNNING" => Ok(InitialState::Running),
            "PAUSED" => Ok(InitialState::Paused),
            "STOPPED" => Ok(InitialState::Stopped),
            _ => Err(format!("initial_state is {text:?}; it may be RUNNING, PAUSED or STOPPED")),
        }
    }
}

/// What such a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectorFile {
    /// The name of the connector; `None` where the file says null, which is no good name.
    pub name: Option<String>,
    /// Its settings with `name`; a null stays one, and is refused when they are validated.
    pub config: BTreeMap<String, Option<String>>,
    /// As it was said, if it was.
    pub initial_state: Option<InitialState>,
}

impl ConnectorFile {
    /// Reads a file. The error does not name it.
    pub fn read(path: &Path) -> Result<ConnectorFile, String> {
        use std::io::Read;
        let mut content = Vec::new();
        let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(format!("it has more than {MAX_FILE_BYTES} bytes"));
        }
        ConnectorFile::parse(&content)
    }

    /// Reads the content of a file.
    pub fn parse(content: &[u8]) -> Result<ConnectorFile, String> {
        let looks_like_json = content.trim_ascii_start().first() == Some(&b'{');
        let json_error = match from_json(content) {
            Ok(Ok(file)) => return Ok(file),
            // It is a request or a map, and a wrong one.
            Ok(Err(reason)) => return Err(reason),
            Err(reason) => reason,
        };
        let from_properties = properties::from_latin1(content).map_err(|error| error.to_string()).and_then(|props| {
            let config = props.into_iter().map(|(name, value)| (name, Some(value))).collect();
            from_settings(config)
        });
        // Java ends up with what the text lacks as properties, which helps nobody who wrote JSON.
        from_properties.map_err(|reason| if looks_like_json { json_error } else { reason })
    }
}

/// The outer error: this is none of the JSON forms, and may be properties.
fn from_json(content: &[u8]) -> Result<Result<ConnectorFile, String>, String> {
    let fields: BTreeMap<String, Box<RawValue>> = first_value(content)?;
    let map_error = match settings(&fields) {
        Ok(config) => return Ok(from_settings(config)),
        Err(reason) => reason,
    };
    let Some(config) = fields.get("config") else { return Err(map_error) };
    let config: BTreeMap<String, Box<RawValue>> =
        serde_json::from_str(config.get()).map_err(|error| format!("config is no object of settings: {error}"))?;
    let mut config = settings(&config)?;
    let name = fields.get(NAME).map(|name| text(NAME, name)).transpose()?.flatten();
    let initial_state = fields.get("initial_state").map(|state| text("initial_state", state)).transpose()?.flatten();
    let initial_state = initial_state.as_deref().map(InitialState::parse).transpose()?;
    match config.get(NAME) {
        Some(other) if other.is_none() || *other != name => {
            let said = |name: &Option<String>| name.as_ref().map_or("null".to_owned(), |name| format!("{name:?}"));
            return Ok(Err(format!("name is {}, and {} in config", said(&name), said(other))));
        }
        Some(_) => {}
        None => drop(config.insert(NAME.to_owned(), name.clone())),
    }
    Ok(Ok(ConnectorFile { name, config, initial_state }))
}

/// The JSON value that the text begins with; like Java, what follows it is not looked at.
fn first_value<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Result<T, String> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    match serde_json::Deserializer::from_slice(content).into_iter().next() {
        Some(value) => value.map_err(|error| format!("this is no JSON object: {error}")),
        None => Err("the file is empty".to_owned()),
    }
}

fn from_settings(config: BTreeMap<String, Option<String>>) -> Result<ConnectorFile, String> {
    let name = config.get(NAME).ok_or("the setting name is missing")?.clone();
    Ok(ConnectorFile { name, config, initial_state: None })
}

fn settings(fields: &BTreeMap<String, Box<RawValue>>) -> Result<BTreeMap<String, Option<String>>, String> {
    fields.iter().map(|(name, value)| Ok((name.clone(), text(name, value)?))).collect()
}

/// A text, or a number or boolean as it is spelt.
fn text(name: &str, value: &RawValue) -> Result<Option<String>, String> {
    match value.get().as_bytes().first() {
        Some(b'"') => serde_json::from_str(value.get()).map_err(|error| format!("{name}: {error}")),
        Some(b'{' | b'[') => Err(format!("{name} should be text and is an object or a list")),
        _ if value.get() == "null" => Ok(None),
        _ => Ok(Some(value.get().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(file: &ConnectorFile) -> String {
        let setting = |(name, value): (&String, &Option<String>)| format!("{name}={}", value.as_deref().unwrap_or("-"));
        file.config.iter().map(setting).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_content_decides_about_the_form() {
        for (text, settings) in [
            ("name=a\nx=1", "name=a x=1"),
            ("1=2\nname=a", "1=2 name=a"),
            (r#"{"name":"a","x":1.50,"y":1e5,"z":true} behind"#, "name=a x=1.50 y=1e5 z=true"),
            ("\u{feff}{\"name\":\"a\"}", "name=a"),
            (r#"{"name":"a","config":null}"#, "config=- name=a"),
            (r#"{"name":"a","name":"b"}"#, "name=b"),
            (r#"{"name":"a","config":{"x":null},"more":[{}]}"#, "name=a x=-"),
            (r#"{"name":"a","config":{"name":"a"},"initial_state":null}"#, "name=a"),
        ] {
            let file = ConnectorFile::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!((config(&file), file.initial_state), (settings.to_owned(), None), "{text}");
        }
        let stopped = br#"{"name":"a","config":{},"initial_state":"Stopped"}"#;
        assert_eq!(ConnectorFile::parse(stopped).unwrap().initial_state, Some(InitialState::Stopped));
    }

    #[test]
    fn errors_say_what_is_wrong() {
        for (text, word) in [
            ("x=1", "name is missing"),
            ("", "name is missing"),
            ("name=\\u12", "line 1"),
            ("{\"name\":\"a\",\n", "line 2"),
            (r#"{"x":"a"}"#, "name is missing"),
            (r#"{"name":"a","x":{}}"#, "x should be text"),
            (r#"{"name":"a","config":{"x":[1]}}"#, "x should be text"),
            (r#"{"name":"a","config":[1]}"#, "config is no object"),
            (r#"{"name":"a","config":{},"initial_state":"bogus"}"#, "bogus"),
            (r#"{"name":"a","config":{"name":"b"}}"#, "\"b\" in config"),
            (r#"{"name":"a","config":{"name":null}}"#, "null in config"),
        ] {
            let error = ConnectorFile::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert!(ConnectorFile::read(Path::new("/no/such.json")).unwrap_err().contains("No such file"));
        assert!(ConnectorFile::read(Path::new("/")).unwrap_err().contains("directory"));
    }
}
