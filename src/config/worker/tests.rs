use super::*;

fn props(text: &str) -> Props {
    properties::from_text(text).expect("properties")
}

const SMALL: &str = "bootstrap.servers=a:1, b:2\nkey.converter=JsonConverter\nvalue.converter=x.Y\n";

#[test]
fn the_example_has_javas_defaults() {
    let config = WorkerConfig::from_props(props(SMALL)).unwrap();
    assert_eq!(config.bootstrap_servers, "a:1,b:2");
    assert_eq!(config.group_id, "connect-cluster");
    assert_eq!(config.config_storage.name, "connect-configs");
    assert_eq!(config.config_storage.partitions, Some(1));
    assert_eq!(config.offset_storage.partitions, Some(25));
    assert_eq!(config.status_storage.replication_factor, Some(3));
    assert_eq!(config.offset_flush_interval, Duration::from_secs(60));
    assert_eq!(config.listeners, [Listener { host: None, port: 8083 }]);
    assert_eq!(config.worker_fence_timeout, Duration::from_secs(1));
    assert_eq!(config.header_converter.class, "org.apache.kafka.connect.storage.SimpleHeaderConverter");
    assert_eq!(config.exactly_once_source, ExactlyOnceSource::Disabled);
    assert_eq!(config.unknown_keys, Vec::<String>::new());
}

#[test]
fn prefixes_are_split_out() {
    let config = WorkerConfig::from_props(props(&format!(
        "{SMALL}value.converter.schemas.enable=false\nconsumer.max.poll.records=5\nproducer.bootstrap.servers=c:3\n\
         security.protocol=SSL\nssl.keystore.password=hunter2\nconfig.storage.min.insync.replicas=2\n\
         offset.storage.partitions=-1\nadmin.listeners=\nadmin.retries=1\nplugin.path=/x\nofset.flush.interval.ms=1\n"
    )))
    .unwrap();
    assert_eq!(config.value_converter.props, props("schemas.enable=false"));
    let top = "bootstrap.servers=a:1, b:2\nsecurity.protocol=SSL\nssl.keystore.password=hunter2";
    assert_eq!(config.client, props(top));
    assert_eq!(config.consumer, props(&format!("{top}\nmax.poll.records=5")));
    // Other brokers: no secrets for them.
    assert_eq!(config.producer, props("bootstrap.servers=c:3"));
    assert_eq!(config.admin, props(&format!("{top}\nretries=1")));
    let connector = props("consumer.override.max.poll.records=9\nproducer.override.x=1\nconsumer.acks=0");
    let consumer = config.client_props_of(ClientKind::Consumer, &connector);
    assert_eq!(consumer, props(&format!("{top}\nmax.poll.records=9")));
    assert_eq!(config.config_storage.settings, props("min.insync.replicas=2"));
    assert_eq!(config.offset_storage.partitions, None);
    assert_eq!(config.admin_listeners, Some(vec![]));
    assert_eq!(config.unknown_keys, ["ofset.flush.interval.ms"]);
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn every_mistake_is_named() {
    let error = WorkerConfig::from_props(props("offset.flush.interval.ms=soon\nstatus.storage.partitions=0\n"));
    let error = error.unwrap_err();
    for name in ["bootstrap.servers", "key.converter", "offset.flush.interval.ms", "status.storage.partitions"] {
        assert!(error.message().contains(name), "{error}");
    }
}

#[test]
fn harmless_lists_are_accepted() {
    let small = SMALL.replace("a:1, b:2", "a:1,,a:1,");
    assert_eq!(WorkerConfig::from_props(props(&small)).unwrap().bootstrap_servers, "a:1,a:1");
    let guarded = WorkerConfig::from_props(props(&format!("{SMALL}rest.extension.classes=x.BasicAuth\n")));
    assert!(guarded.unwrap_err().message().contains("x.BasicAuth"));
    assert!(WorkerConfig::from_props(props(&format!("{SMALL}listeners=\n"))).is_err());
}

#[test]
fn listeners() {
    let host = |host: &str, port| Ok(Listener { host: Some(host.to_owned()), port });
    assert_eq!(parse_listener("http://localhost:0"), host("localhost", 0));
    assert_eq!(parse_listener("HTTP://[::1]:8083/"), host("::1", 8083));
    for bad in ["localhost:8083", "https://:8443", "http://localhost", "http://:99999", "ftp://x:1"] {
        assert!(parse_listener(bad).is_err(), "{bad}");
    }
}

#[test]
fn what_would_be_delivered_otherwise_is_refused_by_name() {
    for (line, named) in [
        ("exactly.once.source.support=Enabled", "exactly.once.source.support=Enabled"),
        ("config.providers=file", "config.providers=file"),
        ("rest.extension.classes=x.Y", "x.Y"),
        ("rest.advertised.listener=https", "rest.advertised.listener"),
        ("security.protocol=SASL_SSL", "sasl.mechanism: GSSAPI"),
        ("producer.security.protocol=TLS", "producer.security.protocol"),
        ("consumer.interceptor.classes=x.Y", "consumer.interceptor.classes"),
        ("producer.linger.ms=soon", "producer.linger.ms"),
        ("consumer.bootstrap.servers=c:3", "consumer.bootstrap.servers"),
        ("connector.client.config.override.policy=x.Custom", "connector.client.config.override.policy"),
        ("ssl.truststore.location=/t.jks\nsecurity.protocol=SSL", "ssl.truststore.location"),
    ] {
        let error = WorkerConfig::from_props(props(&format!("{SMALL}{line}\n"))).expect_err(line);
        assert_eq!(error.message().matches(named).count(), 1, "{line}: {error}");
    }
    let neutral = "exactly.once.source.support=preparing\nconfig.providers=\nrest.advertised.listener=http\n";
    assert_eq!(WorkerConfig::from_props(props(&format!("{SMALL}{neutral}"))).unwrap().warnings, Vec::<String>::new());
}

#[test]
fn what_has_no_effect_is_said_once() {
    let config = WorkerConfig::from_props(props(&format!(
        "{SMALL}access.control.allow.origin=*\nproducer.acks=1\nproducer.foo=1\nsasl.foo=1\ngroup.id=g\n"
    )));
    let config = config.unwrap();
    let expected = ["access.control.allow.origin ", "sasl.foo", "producer.acks: ", "producer.foo: "];
    for name in expected {
        assert_eq!(
            config.warnings.iter().filter(|text| text.starts_with(name)).count(),
            usize::from(name != "sasl.foo"),
            "{name}"
        );
    }
    assert_eq!(config.unknown_keys, ["sasl.foo"]);
    let defaulted: Vec<_> = config.defaulted.iter().map(|(name, _)| *name).collect();
    assert_eq!(defaulted, ["config.storage.topic", "offset.storage.topic", "status.storage.topic"]);
}

#[test]
fn the_environment_wins_over_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("worker.properties");
    std::fs::write(&path, format!("{SMALL}group.id=of-file\n")).unwrap();
    let variables = |pairs: &[(&str, &str)]| pairs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    let some = variables(&[("CONNECT_GROUP_ID", "of-environment"), ("CONNECT_NODE_LOG", "x"), ("HOME", "/")]);
    let config = WorkerConfig::load(Some(&path), &some).unwrap();
    assert_eq!((&*config.group_id, &*config.bootstrap_servers), ("of-environment", "a:1,b:2"));
    assert_eq!(config.unknown_keys, Vec::<String>::new());
    let all = variables(&[
        ("CONNECT_BOOTSTRAP_SERVERS", "e:1"),
        ("CONNECT_KEY_CONVERTER", "x.Y"),
        ("CONNECT_VALUE_CONVERTER", "x.Y"),
        ("CONNECT_VALUE_CONVERTER_SCHEMAS_ENABLE", "false"),
    ]);
    let config = WorkerConfig::load(None, &all).unwrap();
    assert_eq!((&*config.bootstrap_servers, &config.value_converter.props), ("e:1", &props("schemas.enable=false")));
    let nothing = WorkerConfig::load(None, &BTreeMap::new()).unwrap_err();
    assert!(nothing.message().contains("the environment: ") && nothing.message().contains("bootstrap.servers"));
}

#[test]
fn a_missing_file_is_named() {
    let error = WorkerConfig::read(Path::new("/no/such.properties")).unwrap_err();
    assert!(error.message().contains("/no/such.properties"), "{error}");
}

#[test]
fn the_shipped_example_can_be_read() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/connect-distributed.properties");
    let config = WorkerConfig::read(&path).unwrap();
    assert_eq!(config.unknown_keys, Vec::<String>::new());
    assert_eq!(config.status_storage.replication_factor, Some(1));
}

mod recorded;
