//! `connector.client.config.override.policy`: which settings of Kafka clients a connector may override.

use std::collections::BTreeSet;

use connect_api::Props;

/// Java's policies; in Java each is a class.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum OverridePolicy {
    /// All of them.
    #[default]
    All,
    /// None of them.
    None,
    /// Those that say as whom the client logs in.
    Principal,
    /// Those of `connector.client.config.override.allowlist` (KIP-1188).
    Allowlist(BTreeSet<String>),
}

/// The names in short.
const NAMES: [&str; 4] = ["All", "None", "Principal", "Allowlist"];
/// What Java's aliases may leave out.
const SUFFIX: &str = "ConnectorClientConfigOverridePolicy";
const PACKAGE: &str = "org.apache.kafka.connect.connector.policy.";
/// What Java's policy Principal allows.
const OF_PRINCIPAL: [&str; 3] = ["sasl.jaas.config", "sasl.mechanism", "security.protocol"];

impl OverridePolicy {
    /// The policy of a worker, by its short name, its simple class name or its full one; the error says which there are.
    pub fn from_props(props: &Props) -> Result<Self, String> {
        let text = props.get("connector.client.config.override.policy").map_or("All", |text| text.trim());
        let simple = text.strip_prefix(PACKAGE).filter(|name| name.ends_with(SUFFIX)).unwrap_or(text);
        match simple.strip_suffix(SUFFIX).unwrap_or(simple) {
            "All" => Ok(OverridePolicy::All),
            "None" => Ok(OverridePolicy::None),
            "Principal" => Ok(OverridePolicy::Principal),
            "Allowlist" => {
                let list = props.get("connector.client.config.override.allowlist").map_or("", String::as_str);
                let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
                Ok(OverridePolicy::Allowlist(names.map(str::to_owned).collect()))
            }
            _ => Err(format!("must be one of {}, but is {text:?}", NAMES.join(", "))),
        }
    }

    /// Whether a connector may override this setting, named without `producer.override.` and so on.
    pub fn allows(&self, name: &str) -> bool {
        match self {
            OverridePolicy::All => true,
            OverridePolicy::None => false,
            OverridePolicy::Principal => OF_PRINCIPAL.contains(&name),
            OverridePolicy::Allowlist(names) => names.contains(name),
        }
    }

    /// Its short name.
    pub fn name(&self) -> &'static str {
        match self {
            OverridePolicy::All => NAMES[0],
            OverridePolicy::None => NAMES[1],
            OverridePolicy::Principal => NAMES[2],
            OverridePolicy::Allowlist(_) => NAMES[3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, allowlist: &str) -> Result<OverridePolicy, String> {
        let prefix = "connector.client.config.override.";
        OverridePolicy::from_props(
            &[("policy", name), ("allowlist", allowlist)]
                .map(|(key, text)| (format!("{prefix}{key}"), text.to_owned()))
                .into(),
        )
    }

    #[test]
    fn policies_have_three_names() {
        assert_eq!(OverridePolicy::from_props(&Props::new()), Ok(OverridePolicy::All));
        for name in [
            "None",
            "NoneConnectorClientConfigOverridePolicy",
            " org.apache.kafka.connect.connector.policy.NoneConnectorClientConfigOverridePolicy",
        ] {
            assert_eq!(policy(name, ""), Ok(OverridePolicy::None), "{name}");
        }
        let no_class = "org.apache.kafka.connect.connector.policy.None";
        for name in ["none", "", "com.example.NoneConnectorClientConfigOverridePolicy", no_class] {
            assert!(policy(name, "").is_err(), "{name}");
        }
    }

    #[test]
    fn each_allows_what_java_allows() {
        let list = policy("Allowlist", "acks, linger.ms,").unwrap();
        for (policy, allowed, refused) in [
            (OverridePolicy::All, &["acks"][..], &[][..]),
            (OverridePolicy::None, &[], &["acks", "sasl.jaas.config"]),
            (
                OverridePolicy::Principal,
                &["sasl.jaas.config", "sasl.mechanism", "security.protocol"],
                &["acks", "ssl.keystore.key"],
            ),
            (list, &["acks", "linger.ms"], &["sasl.jaas.config", ""]),
            (policy("Allowlist", "").unwrap(), &[], &["acks"]),
        ] {
            assert!(allowed.iter().all(|name| policy.allows(name)), "{policy:?}");
            assert!(refused.iter().all(|name| !policy.allows(name)), "{policy:?}");
        }
    }
}
