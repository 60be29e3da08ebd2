use super::*;

fn props(pairs: &[(&str, &str)]) -> Props {
    pairs.iter().map(|&(name, text)| (name.to_owned(), text.to_owned())).collect()
}

/// One setting and what becomes of it: `name=value` joined, or the error.
fn check(kind: ClientKind, java: &[(&str, &str)], expected: &str) {
    let made = match client_settings(kind, &props(java)) {
        Ok(made) => made.settings.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
        Err(error) => format!("error {error}"),
    };
    if expected.starts_with("error ") {
        assert!(made.starts_with(expected), "{java:?}: {made}");
    } else {
        assert_eq!(made, expected, "{java:?}");
    }
}

#[test]
fn settings_keep_or_change_their_names() {
    use ClientKind::*;
    check(Producer, &[("linger.ms", " 5 ")], "linger.ms=5");
    check(Producer, &[("acks", "1"), ("enable.idempotence", "false")], "");
    check(
        Producer,
        &[("retries", "0"), ("max.in.flight.requests.per.connection", "10")],
        "max.in.flight.requests.per.connection=5 retries=1",
    );
    check(Producer, &[("compression.zstd.level", "5")], "");
    check(
        Producer,
        &[("compression.type", "zstd"), ("compression.zstd.level", "22"), ("compression.gzip.level", "3")],
        "compression.level=12 compression.type=zstd",
    );
    check(Producer, &[("max.request.size", "5000000")], "message.max.bytes=5000000");
    check(Producer, &[("request.timeout.ms", "20000")], "request.timeout.ms=20000 socket.timeout.ms=20000");
    check(Consumer, &[("request.timeout.ms", "2147483647")], "socket.timeout.ms=300000");
    check(Producer, &[("buffer.memory", "33554433")], "queue.buffering.max.kbytes=32769");
    check(Producer, &[("key.serializer", "x.Y")], "");
    check(Consumer, &[("fetch.max.wait.ms", "10")], "fetch.wait.max.ms=10");
    check(Consumer, &[("auto.offset.reset", "none")], "auto.offset.reset=error");
    check(Consumer, &[("receive.buffer.bytes", "-1")], "socket.receive.buffer.bytes=0");
    check(
        Consumer,
        &[("fetch.max.bytes", "200000000")],
        "fetch.max.bytes=200000000 receive.message.max.bytes=200000512",
    );
    check(Admin, &[("retries", "1")], "");
    check(Producer, &[("linger.ms", "x")], "error linger.ms: must be an integer");
    check(Producer, &[("compression.type", "brotli")], "error compression.type");
    check(Producer, &[("interceptor.classes", "x.Y")], "error interceptor.classes");
    check(Producer, &[("interceptor.classes", "")], "");
    check(Consumer, &[("auto.offset.reset", "by_duration:PT1H")], "error auto.offset.reset");
}

#[test]
fn bounds_and_warnings_are_handed_out() {
    let producer = client_settings(ClientKind::Producer, &props(&[("buffer.memory", "1000"), ("max.block.ms", "1")]));
    let producer = producer.unwrap();
    assert_eq!(producer.buffer_memory_bytes, Some(1000));
    assert_eq!(producer.warnings.len(), 1);
    let always =
        client_settings(ClientKind::Producer, &props(&[("acks", "-1"), ("enable.idempotence", "TRUE")])).unwrap();
    assert_eq!(always.warnings, []);
    let weaker =
        client_settings(ClientKind::Producer, &props(&[("acks", "1"), ("enable.idempotence", "false")])).unwrap();
    assert_eq!(weaker.warnings.len(), 2);
    let consumer = client_settings(ClientKind::Consumer, &props(&[("max.poll.records", "7"), ("foo", "1")])).unwrap();
    assert_eq!((consumer.max_poll_records, consumer.warnings.len()), (Some(7), 1));
}

#[test]
fn security_is_translated_as_a_whole() {
    let jaas = r#"org.apache.kafka.common.security.scram.ScramLoginModule required username="me" password="a\"b;c";"#;
    let scram =
        [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", jaas)];
    check(
        ClientKind::Admin,
        &scram,
        r#"sasl.mechanism=SCRAM-SHA-512 sasl.password=a"b;c sasl.username=me security.protocol=sasl_plaintext"#,
    );
    let shown = format!("{:?}", client_settings(ClientKind::Admin, &props(&scram)).unwrap());
    assert!(!shown.contains("a\\\"b;c"), "{shown}");
    check(
        ClientKind::Consumer,
        &[
            ("security.protocol", "SSL"),
            ("ssl.truststore.location", "/ca.pem"),
            ("ssl.truststore.type", "PEM"),
            ("ssl.endpoint.identification.algorithm", ""),
        ],
        "security.protocol=ssl ssl.ca.location=/ca.pem ssl.endpoint.identification.algorithm=none",
    );
    check(
        ClientKind::Consumer,
        &[
            ("security.protocol", "SSL"),
            ("ssl.keystore.location", "/k.p12"),
            ("ssl.keystore.type", "PKCS12"),
            ("ssl.keystore.password", "x"),
        ],
        "security.protocol=ssl ssl.keystore.location=/k.p12 ssl.keystore.password=x",
    );
    for (java, error) in [
        (
            &[("security.protocol", "SSL"), ("ssl.truststore.location", "/t.jks")][..],
            "error ssl.truststore.location: a trust store of type JKS",
        ),
        (&[("security.protocol", "TLS")], "error security.protocol"),
        (&[("security.protocol", "SASL_SSL")], "error sasl.mechanism: GSSAPI"),
        (&[("security.protocol", "SASL_SSL"), ("sasl.mechanism", "PLAIN")], "error sasl.jaas.config"),
        (
            &[
                ("security.protocol", "SASL_SSL"),
                ("sasl.mechanism", "PLAIN"),
                ("sasl.jaas.config", "x username=\"secret"),
            ],
            "error sasl.jaas.config: required, requisite",
        ),
        (
            &[("security.protocol", "SSL"), ("ssl.engine.factory.class", "x.Y")],
            "error ssl.engine.factory.class: it names a Java class",
        ),
        (&[("security.protocol", "SSL"), ("ssl.enabled.protocols", "TLSv1.1")], "error ssl.enabled.protocols"),
        (&[("security.protocol", "SSL"), ("ssl.keystore.key", "secret")], "error ssl.keystore.key: it must be PEM"),
        (
            &[
                ("security.protocol", "SSL"),
                ("ssl.keystore.location", "/k.p12"),
                ("ssl.keystore.type", "pkcs12"),
                ("ssl.keystore.password", "x"),
                ("ssl.key.password", "y"),
            ],
            "error ssl.key.password",
        ),
    ] {
        check(ClientKind::Producer, java, error);
    }
    check(ClientKind::Producer, &[("ssl.truststore.location", "/t.jks")], "");
}

/// A login module for `mechanism` with these options, as client settings.
fn login(mechanism: &str, jaas: &str) -> Vec<(String, String)> {
    [("security.protocol", "SASL_SSL"), ("sasl.mechanism", mechanism), ("sasl.jaas.config", jaas)]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .to_vec()
}

#[test]
fn a_login_module_has_to_fit_its_mechanism() {
    let (plain, scram) = (
        "org.apache.kafka.common.security.plain.PlainLoginModule",
        "org.apache.kafka.common.security.scram.ScramLoginModule",
    );
    let both = r#"username="u" password="hunter2""#;
    for (mechanism, jaas, error) in [
        ("PLAIN", format!("{plain} required {both};"), None),
        ("SCRAM-SHA-256", format!("{scram} required {both};"), None),
        ("PLAIN", format!("{scram} required {both};"), Some("the login module of PLAIN")),
        ("SCRAM-SHA-512", format!("com.example.Module required {both};"), Some("the login module of SCRAM-SHA-512")),
        ("SCRAM-SHA-256", format!("{scram} required {both} tokenauth=\"true\";"), Some("delegation tokens")),
        ("PLAIN", format!("{plain} required password=\"hunter2\";"), Some("username and password")),
        ("PLAIN", format!("{plain} required {both}"), Some("semicolon")),
        ("OAUTHBEARER", String::new(), Some("OAUTHBEARER is not supported")),
    ] {
        let made = client_settings(ClientKind::Consumer, &login(mechanism, &jaas).into_iter().collect());
        match (made, error) {
            (Ok(made), None) => assert_eq!(made.settings["sasl.password"], "hunter2"),
            (Err(shown), Some(error)) => {
                let shown = shown.to_string();
                assert!(shown.contains(error) && !shown.contains("hunter2"), "{jaas}: {shown}");
            }
            (made, _) => panic!("{jaas}: {made:?}"),
        }
    }
}

/// One setting of a client as Java 4.3 defines it.
#[derive(serde::Deserialize)]
struct Recorded {
    name: String,
    #[serde(rename = "type")]
    java_type: String,
    default: Option<String>,
    validator: Option<String>,
}

fn recorded(kind: ClientKind) -> Vec<Recorded> {
    let text = include_str!("../../../tests/vectors/client-configdefs.json");
    let mut all: BTreeMap<String, Vec<Recorded>> = serde_json::from_str(text).expect("JSON");
    let class = match kind {
        ClientKind::Producer => "ProducerConfig",
        ClientKind::Consumer => "ConsumerConfig",
        ClientKind::Admin => "AdminClientConfig",
    };
    all.remove(class).expect("recorded")
}

#[test]
fn every_setting_of_a_java_client_is_known_and_takes_the_same_values() {
    for kind in [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin] {
        let recorded = recorded(kind);
        assert!(recorded.len() > 80);
        for java in &recorded {
            let name = &java.name;
            assert!(standing(kind, name).is_some(), "{kind:?} {name} is not in the table");
            let Some(rule) = table::rule(kind, name) else { continue };
            match &rule.action {
                Action::Number { .. } | Action::CompressionLevel(..) | Action::SocketBuffer(_) => {
                    assert!(["INT", "LONG"].contains(&&*java.java_type), "{name} is {}", java.java_type);
                }
                Action::Boolean => assert_eq!(java.java_type, "BOOLEAN", "{name}"),
                Action::Word(words) => {
                    let accepted = java.validator.as_deref().unwrap_or_default().to_ascii_lowercase();
                    let mut accepted: Vec<_> = accepted
                        .trim_start_matches("(case insensitive) ")
                        .trim_matches(['[', ']'])
                        .split(", ")
                        .collect();
                    accepted.sort_unstable();
                    let mut words = words.to_vec();
                    words.sort_unstable();
                    assert_eq!(words, accepted, "{name}");
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_rule_is_about_a_setting_of_java() {
    let kinds = [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin];
    let recorded: Vec<Recorded> = kinds.into_iter().flat_map(recorded).collect();
    // Removed from Java's clients in 4.0; files of older workers still have it.
    let old = "auto.include.jmx.reporter";
    for rule in kinds.into_iter().flat_map(table::rules) {
        assert!(recorded.iter().any(|java| java.name == rule.java) || rule.java == old, "Java has no {}", rule.java);
    }
}

#[test]
fn other_defaults_are_other_than_javas() {
    let recorded: Vec<Recorded> = [ClientKind::Producer, ClientKind::Consumer].into_iter().flat_map(recorded).collect();
    for (name, java, here, why) in OTHER_DEFAULTS {
        let is_recorded = |one: &&Recorded| one.name == *name && one.default.as_deref() == Some(java);
        assert!(recorded.iter().any(|one| is_recorded(&one)), "{name}: Java's default is not {java}");
        assert!(here != java && !why.is_empty(), "{name}");
    }
}
