//! The settings of gossip, all of our own: `cluster.*`.

use std::fmt;

use connect_api::{ConfigDef, ConfigKey, ConnectError, Importance, ParsedConfig, Result, Type};

use super::{Listener, without_empty};

/// Bytes that `cluster.secret` must have: whoever guesses it speaks in the cluster's name.
pub const SECRET_MIN_BYTES: usize = 16;

/// How workers find each other and notice each other's death.
#[derive(Clone, PartialEq)]
pub struct GossipConfig {
    /// Where gossip listens, UDP; `None`: the host and the port of the REST listener.
    pub listener: Option<Listener>,
    /// What others send to, `host:port`; `None`: the advertised host and port of REST.
    pub advertised_listener: Option<String>,
    /// Where others may be, `host:port`, beside those that the config topic names.
    pub seeds: Vec<String>,
    /// What the key is made of; `None`: of the session key in the config topic.
    pub secret: Option<String>,
}

/// Without the secret.
impl fmt::Debug for GossipConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GossipConfig")
            .field("listener", &self.listener)
            .field("advertised_listener", &self.advertised_listener)
            .field("seeds", &self.seeds)
            .finish_non_exhaustive()
    }
}

pub(super) fn define(definition: ConfigDef) -> ConfigDef {
    let key = |name: &str, setting_type, documentation: &str| {
        ConfigKey::new(name, setting_type, Importance::Low, documentation)
    };
    definition
        .define(key("cluster.listener", Type::String, "Where gossip listens, UDP: host:port.").optional())
        .define(
            key("cluster.advertised.listener", Type::String, "What other workers send gossip to: host:port.")
                .optional(),
        )
        .define(
            key("cluster.seeds", Type::List, "Where other workers may be: host:port, separated by commas.")
                .default_value(""),
        )
        .define(
            key("cluster.secret", Type::Password, "What the key of the gossip is made of: the same at all workers.")
                .optional(),
        )
}

pub(super) fn parse(config: &ParsedConfig) -> Result<GossipConfig> {
    let text = |name: &str| config.opt_string(name).map(str::trim).filter(|text| !text.is_empty());
    let secret = config.opt_password("cluster.secret").map(|secret| secret.value()).filter(|secret| !secret.is_empty());
    if secret.is_some_and(|secret| secret.len() < SECRET_MIN_BYTES) {
        return Err(ConnectError::config(format!(
            "cluster.secret is too short: it must have at least {SECRET_MIN_BYTES} bytes that nobody can guess, for example those of \
             `openssl rand -base64 32`; leave it out to use the session key of the config topic"
        )));
    }
    Ok(GossipConfig {
        listener: text("cluster.listener").map(|text| address("cluster.listener", text)).transpose()?,
        advertised_listener: text("cluster.advertised.listener")
            .map(|text| reachable("cluster.advertised.listener", text))
            .transpose()?,
        seeds: without_empty(config.list("cluster.seeds"))
            .into_iter()
            .map(|seed| reachable("cluster.seeds", seed))
            .collect::<Result<_>>()?,
        secret: secret.map(str::to_owned),
    })
}

/// `host:port`; without a host it is everywhere, and 0 lets the system choose.
fn address(name: &str, text: &str) -> Result<Listener> {
    let wrong = |why: &str| ConnectError::config(format!("{name}: {text:?} is no address: {why}"));
    if text.contains("://") {
        return Err(wrong("it must have the form host:port, without a scheme: gossip is UDP"));
    }
    let (host, port) = text.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
    let port = port.parse().map_err(|_| wrong("the port must be a number up to 65535"))?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if bare.is_none() && host.contains(':') {
        return Err(wrong("an address of IPv6 stands in brackets"));
    }
    Ok(Listener { host: Some(bare.unwrap_or(host)).filter(|host| !host.is_empty()).map(str::to_owned), port })
}

/// An address that others can send to.
fn reachable(name: &str, text: &str) -> Result<String> {
    let Listener { host, port } = address(name, text)?;
    if host.is_none() || port == 0 {
        return Err(ConnectError::config(format!("{name}: {text:?} is no address: others need a host and a port")));
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::properties;
    use crate::config::worker::WorkerConfig;

    fn read(lines: &str) -> Result<WorkerConfig> {
        let text = format!("bootstrap.servers=a:1\nkey.converter=x.Y\nvalue.converter=x.Y\n{lines}");
        WorkerConfig::from_props(properties::from_text(&text).expect("properties"))
    }

    #[test]
    fn nothing_has_to_be_set() {
        let nothing = GossipConfig { listener: None, advertised_listener: None, seeds: vec![], secret: None };
        assert_eq!(read("").unwrap().gossip, nothing);
        let empty = "cluster.listener=\ncluster.advertised.listener= \ncluster.seeds=,\ncluster.secret=\n";
        assert_eq!(read(empty).unwrap().gossip, nothing);
    }

    #[test]
    fn addresses_and_the_secret_are_read() {
        let config = read(
            "cluster.listener=:7946\ncluster.advertised.listener=[::1]:7946\ncluster.seeds=a:1, 10.0.0.1:2\n\
             cluster.secret=0123456789abcdef\n",
        );
        let config = config.unwrap();
        let expected = GossipConfig {
            listener: Some(Listener { host: None, port: 7946 }),
            advertised_listener: Some("[::1]:7946".to_owned()),
            seeds: vec!["a:1".to_owned(), "10.0.0.1:2".to_owned()],
            secret: Some("0123456789abcdef".to_owned()),
        };
        assert_eq!(config.gossip, expected);
        assert!(!format!("{config:?} {:?}", config.gossip).contains("0123456789abcdef"));
        assert_eq!(config.unknown_keys, Vec::<String>::new());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        for (name, value, why) in [
            ("cluster.listener", "http://a:1", "UDP"),
            ("cluster.listener", "a", "port"),
            ("cluster.listener", "::1:5", "brackets"),
            ("cluster.listener", "a:99999", "65535"),
            ("cluster.advertised.listener", ":5", "host"),
            ("cluster.advertised.listener", "a:0", "port"),
            ("cluster.seeds", "a:1,b", "port"),
            ("cluster.secret", "fifteen bytes..", "16 bytes"),
        ] {
            let error = read(&format!("{name}={value}\n")).expect_err(value);
            assert!(error.message().contains(name) && error.message().contains(why), "{error}");
            assert!(name != "cluster.secret" || !error.message().contains(value), "{error}");
        }
    }
}
