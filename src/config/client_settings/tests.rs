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
    check(Producer, &[("acks", "ALL")], "acks=all");
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
            "error sasl.jaas.config: it must have the form",
        ),
    ] {
        check(ClientKind::Producer, java, error);
    }
    check(ClientKind::Producer, &[("ssl.truststore.location", "/t.jks")], "");
}
