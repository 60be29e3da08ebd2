//! `security.protocol`, `ssl.*` and `sasl.*`: Java names key stores and a JAAS text where librdkafka names PEM files, a user and
//! a password.

use connect_api::Props;

use super::ClientSettings;

/// Without effect here, since they are about the JVM's TLS, Kerberos or the refresh of tokens.
const SILENT: &[&str] = &[
    "security.providers",
    "ssl.protocol",
    "ssl.provider",
    "ssl.enabled.protocols",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "ssl.client.auth",
    "ssl.keystore.type",
    "ssl.truststore.type",
    "sasl.kerberos.service.name",
];

const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Whether a setting is dealt with here.
pub fn is_about(name: &str) -> bool {
    name == "security.protocol" || ["ssl.", "sasl."].iter().any(|prefix| name.starts_with(prefix))
}

/// Translates all of them together.
pub fn apply(props: &Props, made: &mut ClientSettings, errors: &mut Vec<String>) {
    let protocol =
        props.get("security.protocol").map_or("plaintext".to_owned(), |text| text.trim().to_ascii_lowercase());
    if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
        errors.push(format!(
            "security.protocol: must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, but is {protocol:?}"
        ));
        return;
    }
    let mut out = Out { props, made, errors };
    if props.contains_key("security.protocol") {
        out.set("security.protocol", &protocol);
    }
    // As in Java, settings of a protocol that is not used do nothing, whatever they say.
    if protocol.ends_with("ssl") {
        out.tls();
    }
    if protocol.starts_with("sasl") {
        out.sasl();
    }
}

struct Out<'a> {
    props: &'a Props,
    made: &'a mut ClientSettings,
    errors: &'a mut Vec<String>,
}

impl Out<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.props.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.made.settings.insert(name.to_owned(), value.to_owned());
    }

    fn copy(&mut self, java: &str, names: &[&str]) {
        if let Some(value) = self.get(java).map(str::to_owned) {
            names.iter().for_each(|name| self.set(name, &value));
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.errors.push(format!("{name}: {why}"));
    }

    fn tls(&mut self) {
        self.copy("ssl.truststore.certificates", &["ssl.ca.pem"]);
        self.copy("ssl.keystore.key", &["ssl.key.pem"]);
        self.copy("ssl.keystore.certificate.chain", &["ssl.certificate.pem"]);
        self.copy("ssl.key.password", &["ssl.key.password"]);
        if self.get("ssl.truststore.location").is_some() {
            match self.store_type("ssl.truststore.type").as_str() {
                "PEM" => self.copy("ssl.truststore.location", &["ssl.ca.location"]),
                other => self.refuse(
                    "ssl.truststore.location",
                    &format!(
                        "a trust store of type {other} cannot be read; export its certificates as PEM \
                         (keytool -exportcert -rfc) and set ssl.truststore.type=PEM"
                    ),
                ),
            }
        }
        if self.get("ssl.keystore.location").is_some() {
            match self.store_type("ssl.keystore.type").as_str() {
                "PEM" => self.copy("ssl.keystore.location", &["ssl.certificate.location", "ssl.key.location"]),
                "PKCS12" => {
                    self.copy("ssl.keystore.location", &["ssl.keystore.location"]);
                    self.copy("ssl.keystore.password", &["ssl.keystore.password"]);
                }
                other => self.refuse(
                    "ssl.keystore.location",
                    &format!("a key store of type {other} cannot be read; convert it to PKCS12 or PEM and set ssl.keystore.type"),
                ),
            }
        }
        // An empty text switches the check off in Java.
        match self.props.get("ssl.endpoint.identification.algorithm").map(|text| text.trim().to_ascii_lowercase()) {
            None => {}
            Some(text) if text.is_empty() => self.set("ssl.endpoint.identification.algorithm", "none"),
            Some(text) if text == "https" => self.set("ssl.endpoint.identification.algorithm", "https"),
            Some(_) => self.refuse("ssl.endpoint.identification.algorithm", "must be https or empty"),
        }
        if self.get("ssl.cipher.suites").is_some() {
            self.refuse("ssl.cipher.suites", "Java's names of cipher suites are not known here; leave it out");
        }
        if self.get("ssl.engine.factory.class").is_some() {
            self.refuse("ssl.engine.factory.class", "it names a Java class, and there is no JVM here");
        }
        self.note_unknown("ssl.");
    }

    /// Java's default is JKS.
    fn store_type(&self, name: &str) -> String {
        self.get(name).unwrap_or("JKS").to_ascii_uppercase()
    }

    fn sasl(&mut self) {
        let mechanism = self.get("sasl.mechanism").unwrap_or("GSSAPI").to_ascii_uppercase();
        if !MECHANISMS.contains(&mechanism.as_str()) {
            self.refuse(
                "sasl.mechanism",
                &format!("{mechanism} is not supported; it must be one of {}", MECHANISMS.join(", ")),
            );
            return;
        }
        self.set("sasl.mechanism", &mechanism);
        let classes = ["sasl.client.callback.handler.class", "sasl.login.callback.handler.class", "sasl.login.class"];
        for name in classes {
            if self.get(name).is_some() {
                self.refuse(name, "it names a Java class, and there is no JVM here");
            }
        }
        let Some(jaas) = self.get("sasl.jaas.config") else {
            self.refuse("sasl.jaas.config", "it is needed: it holds user name and password");
            return;
        };
        match (jaas_option(jaas, "username"), jaas_option(jaas, "password")) {
            (Some(user), Some(password)) => {
                self.set("sasl.username", &user);
                self.set("sasl.password", &password);
            }
            // The text holds a secret: it is not shown.
            _ => self.refuse(
                "sasl.jaas.config",
                "it must have the form `<login module> required username=\"...\" password=\"...\";`",
            ),
        }
    }

    fn note_unknown(&mut self, prefix: &str) {
        let known = [
            "ssl.truststore.certificates",
            "ssl.keystore.key",
            "ssl.keystore.certificate.chain",
            "ssl.key.password",
            "ssl.truststore.location",
            "ssl.truststore.password",
            "ssl.keystore.location",
            "ssl.keystore.password",
            "ssl.endpoint.identification.algorithm",
            "ssl.cipher.suites",
            "ssl.engine.factory.class",
        ];
        for name in self.props.keys().filter(|name| name.starts_with(prefix)) {
            if !known.contains(&name.as_str()) && !SILENT.contains(&name.as_str()) {
                self.made.warnings.push(format!("{name} is no setting that is known here; it has no effect"));
            }
        }
    }
}

/// The value of an option of a JAAS text: quoted, with backslashes before quotes, or a bare word.
fn jaas_option(jaas: &str, option: &str) -> Option<String> {
    let mut rest = jaas;
    loop {
        let at = rest.find(option)?;
        let starts_word = rest[..at].chars().next_back().is_none_or(char::is_whitespace);
        let behind = &rest[at + option.len()..];
        if let Some(value) = behind.trim_start().strip_prefix('=').filter(|_| starts_word) {
            return jaas_value(value.trim_start());
        }
        rest = behind;
    }
}

fn jaas_value(text: &str) -> Option<String> {
    let Some(quote) = text.chars().next().filter(|&c| c == '"' || c == '\'') else {
        let end = text.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(text.len());
        return Some(text[..end].to_owned());
    };
    let mut value = String::new();
    let mut chars = text.chars().skip(1);
    while let Some(c) = chars.next() {
        match c {
            '\\' => value.push(chars.next()?),
            c if c == quote => return Some(value),
            c => value.push(c),
        }
    }
    None
}
