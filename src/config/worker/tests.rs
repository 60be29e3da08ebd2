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
        "{SMALL}value.converter.schemas.enable=false\nproducer.linger.ms=5\nconsumer.bootstrap.servers=c:3\n\
         security.protocol=SSL\nssl.keystore.password=hunter2\nconfig.storage.min.insync.replicas=2\n\
         offset.storage.partitions=-1\nadmin.listeners=\nadmin.retries=1\nplugin.path=/x\nofset.flush.interval.ms=1\n"
    )))
    .unwrap();
    assert_eq!(config.value_converter.props, props("schemas.enable=false"));
    assert_eq!(config.producer, props("linger.ms=5\nbootstrap.servers=a:1, b:2"));
    assert_eq!(config.consumer, props("bootstrap.servers=c:3"));
    let top = "bootstrap.servers=a:1, b:2\nsecurity.protocol=SSL\nssl.keystore.password=hunter2";
    assert_eq!(config.admin, props(&format!("{top}\nretries=1")));
    let connector = props("producer.override.linger.ms=9\nconsumer.override.x=1\nproducer.acks=0");
    let producer = config.client_props_of(ClientKind::Producer, &connector);
    assert_eq!(producer, props("linger.ms=9\nbootstrap.servers=a:1, b:2"));
    assert_eq!(config.client["security.protocol"], "SSL");
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

/// Nothing that a Java worker may be configured with counts as misspelt.
#[test]
fn all_keys_of_java_are_known() {
    let recorded = include_str!("../../../tests/vectors/distributed-worker-keys.txt");
    let mut all = props(SMALL);
    let keys: Vec<&str> = recorded.lines().collect();
    assert!(keys.len() > 100);
    let unknown = unknown_keys(&definition(), &keys.iter().map(|&key| (key.to_owned(), String::new())).collect());
    assert_eq!(unknown, Vec::<String>::new());
    all.insert("plugin.discovery".to_owned(), "hybrid_warn".to_owned());
    assert!(WorkerConfig::from_props(all).is_ok());
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
