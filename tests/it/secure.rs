//! The daemon on a broker with TLS and logins: the main job over each kind of listener, and what is said where something does not fit.

mod certificates;

use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::Duration;

use connect_node::backend::{BackendError, ClientSettings, Isolation, ReadBatch, StartOffset, TopicPartition, kafka};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Mutex;

use self::certificates::Authority;
use crate::support::broker::{Broker, Security};
use crate::support::process::{PATIENCE, Worker};
use crate::support::unique;

const USER: &str = "alice";
/// With what needs quotes in a JAAS text.
const PASSWORD: &str = "hunter;2 'x'";
const WRONG_PASSWORD: &str = "not-the-pass;word";
const STORE_PASSWORD: &str = "store-secret";
const PLAIN: &str = "org.apache.kafka.common.security.plain.PlainLoginModule";
const SCRAM: &str = "org.apache.kafka.common.security.scram.ScramLoginModule";

/// A broker with all kinds of listeners, and the files of its clients.
struct Secure {
    broker: Broker,
    files: TempDir,
}

/// The broker of all tests here, which ends with the last one that uses it.
async fn secure() -> Arc<Secure> {
    static RUNNING: Mutex<Weak<Secure>> = Mutex::const_new(Weak::new());
    let mut running = RUNNING.lock().await;
    if let Some(secure) = running.upgrade() {
        return secure;
    }
    let started = Arc::new(Secure::start().await);
    *running = Arc::downgrade(&started);
    started
}

impl Secure {
    async fn start() -> Secure {
        let files = tempfile::tempdir().unwrap();
        let authority = Authority::new("test authority");
        let broker = authority.issue("broker");
        let client = authority.issue("client");
        let write = |name: &str, bytes: &[u8]| fs::write(files.path().join(name), bytes).unwrap();
        write("ca.pem", authority.certificate_pem().as_bytes());
        write("other-ca.pem", Authority::new("another authority").certificate_pem().as_bytes());
        write("broker.pem", broker.pem().as_bytes());
        write("client.pem", client.pem().as_bytes());
        write("client.p12", &client.pkcs12(STORE_PASSWORD));
        let path = |name: &str| files.path().join(name).display().to_string();
        let mut properties = vec![];
        for listener in ["mtls", "sasltls"] {
            properties.extend([
                format!("listener.name.{listener}.ssl.keystore.type=PEM"),
                format!("listener.name.{listener}.ssl.keystore.location={}", path("broker.pem")),
                format!("listener.name.{listener}.ssl.truststore.type=PEM"),
                format!("listener.name.{listener}.ssl.truststore.location={}", path("ca.pem")),
            ]);
        }
        properties.push("listener.name.mtls.ssl.client.auth=required".to_owned());
        for listener in ["sasltls", "saslplain"] {
            let prefix = format!("listener.name.{listener}");
            properties.extend([
                format!("{prefix}.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
                format!("{prefix}.plain.sasl.jaas.config={PLAIN} required user_{USER}=\"{PASSWORD}\";"),
                format!("{prefix}.scram-sha-256.sasl.jaas.config={SCRAM} required;"),
                format!("{prefix}.scram-sha-512.sasl.jaas.config={SCRAM} required;"),
            ]);
        }
        let scram = |mechanism: &str| format!("{mechanism}=[name={USER},password={PASSWORD}]");
        let security = Security {
            listeners: vec![("MTLS", "SSL"), ("SASLTLS", "SASL_SSL"), ("SASLPLAIN", "SASL_PLAINTEXT")],
            properties,
            scram: vec![scram("SCRAM-SHA-256"), scram("SCRAM-SHA-512")],
            ..Security::default()
        };
        Secure { broker: Broker::start_with(security).await, files }
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).display().to_string()
    }

    /// What a file holds, on one line, as Java takes PEM in a properties file.
    fn one_line(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap().trim().replace('\n', " ")
    }

    fn worker(&self, listener: &str, settings: &[(&str, &str)]) -> Worker {
        let bootstrap = match listener {
            "PLAINTEXT" => self.broker.bootstrap().to_owned(),
            secure => self.broker.listener(secure),
        };
        Worker::new(&bootstrap, settings)
    }
}

fn jaas(module: &str, password: &str) -> String {
    format!("{module} required username=\"{USER}\" password=\"{password}\";")
}

/// A file becomes records of a topic, and these another file.
async fn main_job(mut worker: Worker) {
    let topic = unique("secure");
    let path = |name: &str| -> PathBuf { worker.directory().join(name) };
    let (input, output) = (path("input.txt"), path("output.txt"));
    let lines: String = (0..1000).map(|number| format!("line {number}\n")).collect();
    fs::write(&input, &lines).unwrap();
    worker.start();
    worker.ready().await;
    let (input, copy) = (input.display().to_string(), output.display().to_string());
    let source = [("connector.class", "FileStreamSource"), ("file", &*input), ("topic", &*topic)];
    worker.put("lines", &source).await;
    let sink = [("connector.class", "FileStreamSink"), ("file", &*copy), ("topics", &*topic)];
    worker.put("copy", &sink).await;
    worker
        .eventually("all lines are copied", async || fs::read_to_string(&output).is_ok_and(|text| text == lines))
        .await;
    assert!(worker.terminate().await.success(), "{}", worker.log_tail());
    has_no_secrets(&worker.log());
}

fn has_no_secrets(text: &str) {
    for secret in [PASSWORD, WRONG_PASSWORD, STORE_PASSWORD, "BEGIN PRIVATE", "BEGIN ENCRYPTED"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

/// A worker that cannot get in says why, in its log and at `/health`, and goes on trying.
async fn says(mut worker: Worker, words: &[&str]) {
    worker.start();
    let mut last = String::new();
    worker
        .eventually(&format!("/health and the log say {words:?}"), async || {
            let Ok(reply) = worker.call("GET", "/health", None).await else { return false };
            let Value::String(message) = reply.body.json()["message"].clone() else { return false };
            last = format!("{} {message}", reply.status);
            let log = worker.log();
            reply.status == 503 && words.iter().all(|word| message.contains(word) && log.contains(word))
        })
        .await;
    has_no_secrets(&last);
    has_no_secrets(&worker.log());
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_scram_runs_the_main_job() {
    let secure = secure().await;
    let (ca, login) = (secure.path("ca.pem"), jaas(SCRAM, PASSWORD));
    let settings = [
        ("security.protocol", "SASL_SSL"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.jaas.config", &*login),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &*ca),
    ];
    main_job(secure.worker("SASLTLS", &settings)).await;
}

/// As a file of a Java worker has it: everything three times.
#[tokio::test(flavor = "multi_thread")]
async fn client_certificates_run_the_main_job() {
    let secure = secure().await;
    let (ca, client) = (secure.one_line("ca.pem"), secure.path("client.pem"));
    let settings = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.certificates", &*ca),
        ("ssl.keystore.type", "PEM"),
        ("ssl.keystore.location", &*client),
    ];
    let prefixed: Vec<_> = ["", "producer.", "consumer."]
        .into_iter()
        .flat_map(|prefix| settings.iter().map(move |(name, value)| (format!("{prefix}{name}"), *value)))
        .collect();
    let prefixed: Vec<_> = prefixed.iter().map(|(name, value)| (&**name, *value)).collect();
    main_job(secure.worker("MTLS", &prefixed)).await;
}

/// The worker has the key in a PKCS12 file; sources have it in their settings and the chain beside it.
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_other_forms_run_the_main_job() {
    let secure = secure().await;
    let (ca, store, key) = (secure.path("ca.pem"), secure.path("client.p12"), secure.one_line("client.pem"));
    let (key, chain) = key.split_once("-----BEGIN CERTIFICATE").unwrap();
    let chain = format!("-----BEGIN CERTIFICATE{chain}");
    let settings = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.location", &*ca),
        ("ssl.keystore.type", "PKCS12"),
        ("ssl.keystore.location", &*store),
        ("ssl.keystore.password", STORE_PASSWORD),
        ("ssl.key.password", STORE_PASSWORD),
        ("producer.security.protocol", "SSL"),
        ("producer.ssl.truststore.type", "PEM"),
        ("producer.ssl.truststore.location", &*ca),
        ("producer.ssl.keystore.type", "PEM"),
        ("producer.ssl.keystore.key", key),
        ("producer.ssl.keystore.certificate.chain", &*chain),
    ];
    main_job(secure.worker("MTLS", &settings)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_without_tls_run_the_main_job() {
    let secure = secure().await;
    for (mechanism, module) in [("PLAIN", PLAIN), ("SCRAM-SHA-256", SCRAM)] {
        let login = jaas(module, PASSWORD);
        let settings =
            [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", mechanism), ("sasl.jaas.config", &*login)];
        main_job(secure.worker("SASLPLAIN", &settings)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_protocol_that_is_not_the_listeners_is_named() {
    let secure = secure().await;
    says(secure.worker("MTLS", &[]), &["security.protocol"]).await;
    says(secure.worker("SASLPLAIN", &[]), &["security.protocol"]).await;
    let ca = secure.path("ca.pem");
    let tls = [("security.protocol", "SSL"), ("ssl.truststore.type", "PEM"), ("ssl.truststore.location", &*ca)];
    says(secure.worker("PLAINTEXT", &tls), &["SSL handshake failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_named_and_not_shown() {
    let secure = secure().await;
    let ca = secure.path("ca.pem");
    for (mechanism, module) in [("PLAIN", PLAIN), ("SCRAM-SHA-256", SCRAM)] {
        let login = jaas(module, WRONG_PASSWORD);
        let settings = [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", mechanism),
            ("sasl.jaas.config", &*login),
            ("ssl.truststore.type", "PEM"),
            ("ssl.truststore.location", &*ca),
        ];
        says(secure.worker("SASLTLS", &settings), &["SASL authentication error", "sasl_ssl://"]).await;
    }
}

/// One client logs in for all of them, and says only once that it cannot.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_login_reaches_all_readers_of_a_client() {
    let secure = secure().await;
    let settings = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", USER),
        ("sasl.password", WRONG_PASSWORD),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let backend = kafka::open(&secure.broker.listener("SASLPLAIN"), &ClientSettings::new()).unwrap();
    let reader = |topic: &str| {
        let mut reader =
            backend.shared_reader(&ClientSettings::from(settings.clone()), Isolation::ReadCommitted).unwrap();
        reader.assign(&[(TopicPartition::new(topic, 0), StartOffset::Beginning)]).unwrap();
        reader
    };
    for mut reader in ["one", "two", "three"].map(reader) {
        let refused = async {
            let mut batch = ReadBatch::default();
            loop {
                match reader.read(&mut batch, 10, Duration::from_secs(1)).await {
                    Err(error) => return error,
                    Ok(()) => assert_eq!(batch.records, []),
                }
            }
        };
        let error = tokio::time::timeout(PATIENCE, refused).await.expect("it is told");
        assert!(matches!(&error, BackendError::Refused(text) if text.contains("authentication")), "{error}");
        has_no_secrets(&error.to_string());
    }
}

/// As with Java. The library would try it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_connector_with_a_wrong_login_fails_and_says_so() {
    let secure = secure().await;
    let (right, wrong) = (jaas(PLAIN, PASSWORD), jaas(PLAIN, WRONG_PASSWORD));
    let settings =
        [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "PLAIN"), ("sasl.jaas.config", &*right)];
    let mut worker = secure.worker("SASLPLAIN", &settings);
    let topic = unique("secure");
    let (input, output) = (worker.directory().join("input.txt"), worker.directory().join("output.txt"));
    fs::write(&input, "a line\n").unwrap();
    worker.start();
    worker.ready().await;
    let (input, output) = (input.display().to_string(), output.display().to_string());
    let source = [("connector.class", "FileStreamSource"), ("file", &*input), ("topic", &*topic)];
    let sink = [("connector.class", "FileStreamSink"), ("file", &*output), ("topics", &*topic)];
    worker.put("lines", &source).await;
    worker.put("refused-lines", &[&source[..], &[("producer.override.sasl.jaas.config", &*wrong)]].concat()).await;
    worker.put("refused-copy", &[&sink[..], &[("consumer.override.sasl.jaas.config", &*wrong)]].concat()).await;
    for name in ["refused-lines", "refused-copy"] {
        let mut last = Value::Null;
        worker
            .eventually(&format!("the task of {name} fails and says why"), async || {
                last = worker.get(&format!("/connectors/{name}/status")).await.body.json()["tasks"][0].clone();
                let trace = last["trace"].as_str().unwrap_or_default();
                last["state"] == "FAILED" && trace.contains("SASL authentication error")
            })
            .await;
        has_no_secrets(&last.to_string());
    }
    worker.put("copy", &sink).await;
    worker
        .eventually("the others go on", async || fs::read_to_string(&output).is_ok_and(|text| text == "a line\n"))
        .await;
    has_no_secrets(&worker.log());
    worker.kill().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_that_do_not_fit_are_named() {
    let secure = secure().await;
    let (ca, other) = (secure.path("ca.pem"), secure.path("other-ca.pem"));
    let trusting = |ca| [("security.protocol", "SSL"), ("ssl.truststore.type", "PEM"), ("ssl.truststore.location", ca)];
    says(secure.worker("MTLS", &trusting(&ca)), &["SSL", "certificate"]).await;
    says(secure.worker("MTLS", &trusting(&other)), &["certificate verify failed"]).await;
}

/// What can never work ends the start, with the setting's name.
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_ends_the_start() {
    let missing = "/no/such/file.pem";
    let pem = [("security.protocol", "SSL"), ("ssl.truststore.type", "PEM"), ("ssl.truststore.location", missing)];
    let jks = [("security.protocol", "SSL"), ("ssl.truststore.location", "/etc/trust.jks")];
    let kerberos = [("security.protocol", "SASL_PLAINTEXT"), ("sasl.mechanism", "GSSAPI")];
    for (settings, words) in [
        (&pem[..], &["ssl.ca.location", missing][..]),
        (&jks[..], &["ssl.truststore.location", "JKS", "keytool"]),
        (&kerberos[..], &["sasl.mechanism", "GSSAPI"]),
        (&[("config.providers", "file")][..], &["config.providers=file"]),
    ] {
        let mut worker = Worker::new("127.0.0.1:1", settings);
        worker.start();
        let status = worker.exit(PATIENCE).await;
        assert_eq!(status.code(), Some(1), "{}", worker.log_tail());
        let log = worker.log();
        assert!(words.iter().all(|word| log.contains(word)), "{words:?}: {log}");
    }
}
