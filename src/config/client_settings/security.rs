//! `security.protocol`, `ssl.*` and `sasl.*`: Java names key stores and a JAAS text where librdkafka names PEM texts or files, a user
//! and a password.

use connect_api::Props;

use super::table::JVM_CLASS;
use super::{ClientSettings, Problem, Standing, jaas, pem};

const MECHANISMS: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];
const PLAIN_MODULE: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM_MODULE: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

const JVM_TLS: &str = "it is about TLS of the JVM; OpenSSL does it here";
const KERBEROS: &str = "it is about Kerberos (GSSAPI), which is refused as `sasl.mechanism`";
const TOKENS: &str = "it is about OAUTHBEARER, which is refused as `sasl.mechanism`";
const LOGIN: &str = "it is about logins that expire; those of PLAIN and SCRAM do not";

/// What becomes of each setting. A name that ends in a point stands for all that begin with it.
pub const TABLE: &[(&str, Standing, &str)] = &[
    ("security.protocol", Standing::Honoured, "PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"),
    ("security.providers", Standing::NoEffect, "it names classes of the JVM's security"),
    ("ssl.truststore.type", Standing::Honoured, "PEM; others are refused with a location"),
    ("ssl.truststore.location", Standing::Honoured, "a PEM file of certificates; without it the system's are trusted"),
    ("ssl.truststore.certificates", Standing::Honoured, "PEM, also on one line"),
    ("ssl.truststore.password", Standing::NoEffect, "PEM files have none"),
    ("ssl.keystore.type", Standing::Honoured, "PEM or PKCS12; others are refused with a location"),
    ("ssl.keystore.location", Standing::Honoured, "a PEM file of key and certificates, or a PKCS12 file"),
    ("ssl.keystore.password", Standing::Honoured, "of a PKCS12 file"),
    ("ssl.keystore.key", Standing::Honoured, "PEM, also on one line"),
    ("ssl.keystore.certificate.chain", Standing::Honoured, "PEM, also on one line"),
    ("ssl.key.password", Standing::Honoured, "of a PEM key; in a PKCS12 file it must be the file's"),
    ("ssl.endpoint.identification.algorithm", Standing::Honoured, "`https`, or empty: the host name is not checked"),
    (
        "ssl.enabled.protocols",
        Standing::Honoured,
        "TLSv1.2 and TLSv1.3 are always offered: a list with one of them gets a warning, a list with neither is refused",
    ),
    ("ssl.cipher.suites", Standing::Refused, "Java's names of cipher suites are not known here; leave it out"),
    ("ssl.engine.factory.class", Standing::Refused, JVM_CLASS),
    ("ssl.protocol", Standing::NoEffect, JVM_TLS),
    ("ssl.provider", Standing::NoEffect, JVM_TLS),
    ("ssl.keymanager.algorithm", Standing::NoEffect, JVM_TLS),
    ("ssl.trustmanager.algorithm", Standing::NoEffect, JVM_TLS),
    ("ssl.secure.random.implementation", Standing::NoEffect, JVM_TLS),
    ("ssl.client.auth", Standing::NoEffect, "it is about a server with HTTPS, which there is none"),
    ("sasl.mechanism", Standing::Honoured, "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; others are refused"),
    ("sasl.jaas.config", Standing::Honoured, "one PlainLoginModule or ScramLoginModule with username and password"),
    ("sasl.client.callback.handler.class", Standing::Refused, JVM_CLASS),
    ("sasl.login.callback.handler.class", Standing::Refused, JVM_CLASS),
    ("sasl.login.class", Standing::Refused, JVM_CLASS),
    ("sasl.login.", Standing::NoEffect, LOGIN),
    ("sasl.kerberos.", Standing::NoEffect, KERBEROS),
    ("sasl.oauthbearer.", Standing::NoEffect, TOKENS),
];

/// What becomes of a setting; `None` for one that neither Java nor this program knows.
pub fn standing(name: &str) -> Option<(Standing, &'static str)> {
    let fits = |known: &str| known == name || known.ends_with('.') && name.starts_with(known);
    TABLE.iter().find(|(known, ..)| fits(known)).map(|&(_, standing, why)| (standing, why))
}

/// Whether a setting is dealt with here.
pub fn is_about(name: &str) -> bool {
    name == "security.protocol"
        || name == "security.providers"
        || ["ssl.", "sasl."].iter().any(|prefix| name.starts_with(prefix))
}

/// Translates all of them together.
pub fn apply(props: &Props, made: &mut ClientSettings, errors: &mut Vec<Problem>) {
    let mut out = Out { props, made, errors };
    for name in props.keys().filter(|name| is_about(name)) {
        if standing(name).is_none() {
            out.warn(name, "no setting of this name is known");
        }
    }
    let protocol = out.get("security.protocol").map_or("plaintext".to_owned(), str::to_ascii_lowercase);
    if !["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"].contains(&protocol.as_str()) {
        let why = format!("must be PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL, but is {protocol:?}");
        return out.refuse("security.protocol", &why);
    }
    if props.contains_key("security.protocol") {
        out.set("security.protocol", &protocol);
    }
    // As in Java, settings of a protocol that is not used do nothing, whatever they say.
    if protocol.ends_with("ssl") {
        out.tls();
        out.refuse_by_table("ssl.");
    }
    if protocol.starts_with("sasl") {
        out.sasl();
        out.refuse_by_table("sasl.");
    }
}

struct Out<'a> {
    props: &'a Props,
    made: &'a mut ClientSettings,
    errors: &'a mut Vec<Problem>,
}

impl<'a> Out<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.props.get(name).map(|text| text.trim()).filter(|text| !text.is_empty())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.made.settings.insert(name.to_owned(), value.to_owned());
    }

    fn copy(&mut self, java: &str, names: &[&str]) {
        if let Some(value) = self.get(java) {
            names.iter().for_each(|name| self.set(name, value));
        }
    }

    fn refuse(&mut self, name: &str, why: &str) {
        self.errors.push(Problem { name: name.to_owned(), why: why.to_owned() });
    }

    fn warn(&mut self, name: &str, why: &str) {
        self.made.warnings.push(Problem { name: name.to_owned(), why: why.to_owned() });
    }

    fn refuse_by_table(&mut self, prefix: &str) {
        for &(name, standing, why) in TABLE {
            if standing == Standing::Refused && name.starts_with(prefix) && self.get(name).is_some() {
                self.refuse(name, why);
            }
        }
    }

    fn tls(&mut self) {
        self.pem("ssl.truststore.certificates", "ssl.ca.pem");
        self.pem("ssl.keystore.key", "ssl.key.pem");
        self.pem("ssl.keystore.certificate.chain", "ssl.certificate.pem");
        self.copy("ssl.key.password", &["ssl.key.password"]);
        self.trust_store();
        self.key_store();
        // An empty text switches the check off in Java.
        match self.props.get("ssl.endpoint.identification.algorithm").map(|text| text.trim().to_ascii_lowercase()) {
            None => {}
            Some(text) if text.is_empty() => self.set("ssl.endpoint.identification.algorithm", "none"),
            Some(text) if text == "https" => self.set("ssl.endpoint.identification.algorithm", "https"),
            Some(_) => self.refuse("ssl.endpoint.identification.algorithm", "must be https or empty"),
        }
        if let Some(list) = self.get("ssl.enabled.protocols") {
            let has = |version: &str| list.split(',').any(|one| one.trim().eq_ignore_ascii_case(version));
            match (has("TLSv1.2"), has("TLSv1.3")) {
                (true, true) => {}
                (false, false) => self.refuse("ssl.enabled.protocols", "it must name TLSv1.2 or TLSv1.3"),
                _ => self.warn("ssl.enabled.protocols", "TLSv1.2 and TLSv1.3 are both offered to the broker"),
            }
        }
    }

    fn pem(&mut self, java: &str, name: &str) {
        match self.get(java).map(pem::with_lines) {
            None => {}
            Some(Ok(lines)) => self.set(name, &lines),
            Some(Err(why)) => self.refuse(java, why),
        }
    }

    fn trust_store(&mut self) {
        if self.get("ssl.truststore.location").is_none() {
            return;
        }
        match self.store_type("ssl.truststore.type").as_str() {
            "PEM" if self.made.settings.contains_key("ssl.ca.pem") => {
                self.refuse("ssl.truststore.location", "only one of it and ssl.truststore.certificates may be set");
            }
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

    fn key_store(&mut self) {
        if self.get("ssl.keystore.location").is_none() {
            return;
        }
        match self.store_type("ssl.keystore.type").as_str() {
            "PEM" if self.made.settings.contains_key("ssl.key.pem") => {
                self.refuse("ssl.keystore.location", "only one of it and ssl.keystore.key may be set");
            }
            "PEM" => self.copy("ssl.keystore.location", &["ssl.certificate.location", "ssl.key.location"]),
            "PKCS12" => {
                self.made.settings.remove("ssl.key.password");
                self.copy("ssl.keystore.location", &["ssl.keystore.location"]);
                self.copy("ssl.keystore.password", &["ssl.keystore.password"]);
                let (of_store, of_key) = (self.get("ssl.keystore.password"), self.get("ssl.key.password"));
                if of_key.is_some() && of_key != of_store {
                    self.refuse(
                        "ssl.key.password",
                        "in a PKCS12 key store it must be the same as ssl.keystore.password",
                    );
                }
            }
            other => self.refuse(
                "ssl.keystore.location",
                &format!(
                    "a key store of type {other} cannot be read; convert it (keytool -importkeystore -deststoretype \
                     PKCS12) and set ssl.keystore.type=PKCS12, or set ssl.keystore.type=PEM for a PEM file"
                ),
            ),
        }
    }

    /// Java's default is JKS.
    fn store_type(&self, name: &str) -> String {
        self.get(name).unwrap_or("JKS").to_ascii_uppercase()
    }

    fn sasl(&mut self) {
        let mechanism = self.get("sasl.mechanism").unwrap_or("GSSAPI").to_ascii_uppercase();
        if !MECHANISMS.contains(&mechanism.as_str()) {
            let why = format!("{mechanism} is not supported; it must be one of {}", MECHANISMS.join(", "));
            return self.refuse("sasl.mechanism", &why);
        }
        self.set("sasl.mechanism", &mechanism);
        let Some(text) = self.get("sasl.jaas.config") else {
            return self.refuse("sasl.jaas.config", "it is needed: it holds user name and password");
        };
        // The text holds a secret: it is not shown.
        match jaas::parse(text) {
            Err(why) => self.refuse("sasl.jaas.config", why),
            Ok(module) => self.login(&mechanism, &module),
        }
    }

    fn login(&mut self, mechanism: &str, module: &jaas::LoginModule) {
        let wanted = if mechanism == "PLAIN" { PLAIN_MODULE } else { SCRAM_MODULE };
        if module.class != wanted {
            return self.refuse("sasl.jaas.config", &format!("the login module of {mechanism} is {wanted}"));
        }
        let is_token = |text: &String| text.eq_ignore_ascii_case("true");
        if module.options.get("tokenauth").is_some_and(is_token) {
            return self.refuse("sasl.jaas.config", "delegation tokens (tokenauth) are not supported");
        }
        match (module.options.get("username"), module.options.get("password")) {
            (Some(user), Some(password)) => {
                self.set("sasl.username", user);
                self.set("sasl.password", password);
            }
            _ => self.refuse("sasl.jaas.config", "it must have the options username and password"),
        }
    }
}
