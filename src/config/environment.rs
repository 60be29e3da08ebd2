//! Settings of the worker in environment variables, as container images of Kafka Connect have them:
//! `CONNECT_BOOTSTRAP_SERVERS` is `bootstrap.servers`.

use std::collections::BTreeMap;

use connect_api::Props;

/// What a variable with a setting begins with.
const PREFIX: &str = "CONNECT_";

/// Variables of this program itself, which are no settings of the worker: `CONNECT_NODE_LOG`.
const OWN_PREFIX: &str = "CONNECT_NODE_";

/// The variables of this process. Those that are no Unicode have no setting's name or value, and are left out.
pub fn variables() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The settings in variables. In a name, behind `CONNECT_`, one underscore is a point, two are an underscore, three are a dash, and letters are
/// small: the rule of Confluent's images (their `env_to_props`; their documentation has underscore and dash the other way round).
pub fn worker_settings(variables: &BTreeMap<String, String>) -> Props {
    let settings = variables.iter().filter_map(|(variable, value)| {
        let name = variable.strip_prefix(PREFIX).filter(|_| !variable.starts_with(OWN_PREFIX))?;
        Some((setting_name(name), value.clone()))
    });
    settings.filter(|(name, _)| !name.is_empty()).collect()
}

fn setting_name(variable: &str) -> String {
    let mut name = String::with_capacity(variable.len());
    let mut rest = variable;
    while let Some(c) = rest.chars().next() {
        let (read, written) = match rest {
            _ if rest.starts_with("___") => (3, '-'),
            _ if rest.starts_with("__") => (2, '_'),
            _ if c == '_' => (1, '.'),
            _ => (c.len_utf8(), c.to_ascii_lowercase()),
        };
        name.push(written);
        rest = &rest[read..];
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Props {
        worker_settings(&variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    #[test]
    fn names_are_those_of_container_images() {
        for (variable, setting) in [
            ("CONNECT_BOOTSTRAP_SERVERS", "bootstrap.servers"),
            ("CONNECT_KEY_CONVERTER_SCHEMAS_ENABLE", "key.converter.schemas.enable"),
            ("CONNECT_A_B_C", "a.b.c"),
            ("CONNECT_WITH__UNDERSCORE", "with_underscore"),
            ("CONNECT_WITH___DASH_ä", "with-dash.ä"),
            ("CONNECT_PRODUCER_SASL_JAAS_CONFIG", "producer.sasl.jaas.config"),
        ] {
            assert_eq!(settings(&[(variable, " v=1 ")]), Props::from([(setting.to_owned(), " v=1 ".to_owned())]));
        }
    }

    #[test]
    fn other_variables_are_no_settings() {
        let others = [("CONNECT_NODE_LOG", "debug"), ("CONNECT_", "x"), ("PATH", "/bin"), ("connect_group_id", "g")];
        assert_eq!(settings(&others), Props::new());
        assert_eq!(settings(&[("KAFKA_CONNECT_X", "y")]), Props::new());
    }
}
