//! What the settings of a Java client (4.3) are: type, importance and default, as the answer of a validation shows those
//! that a connector overrides. Recorded from `ProducerConfig`, `ConsumerConfig` and `AdminClientConfig`. What becomes of
//! a setting here stands in `table`.

use connect_api::Importance::{self, High, Low, Medium};
use connect_api::{ConfigKey, Type};

use super::ClientKind;

/// The definition of a setting; `None` where Java's client of this kind does not know it.
pub fn definition(kind: ClientKind, name: &str) -> Option<ConfigKey> {
    let bit = match kind {
        ClientKind::Producer => P,
        ClientKind::Consumer => C,
        ClientKind::Admin => A,
    };
    let (.., setting_type, importance, default) =
        DEFINITIONS.iter().find(|(kinds, java, ..)| *java == name && kinds & bit != 0)?;
    let key = ConfigKey::new(name, *setting_type, *importance, "A setting of the Kafka client, as Kafka documents it.");
    Some(match default {
        Default::Required => key,
        Default::Absent => key.optional(),
        Default::Is(text) => key.default_value(text),
    })
}

/// Kinds of clients that know a setting.
const P: u8 = 1;
const C: u8 = 2;
const A: u8 = 4;

/// What holds when nobody sets it.
enum Default {
    Required,
    Absent,
    Is(&'static str),
}
use Default::{Absent, Is, Required};

/// Kinds, name, type, importance, default.
const DEFINITIONS: &[(u8, &str, Type, Importance, Default)] = &[
    (P, "acks", Type::String, Low, Is("all")),
    (C, "allow.auto.create.topics", Type::Boolean, Medium, Is("true")),
    (C, "auto.commit.interval.ms", Type::Int, Low, Is("5000")),
    (C, "auto.offset.reset", Type::String, Medium, Is("latest")),
    (P, "batch.size", Type::Int, Medium, Is("16384")),
    (A, "bootstrap.controllers", Type::List, High, Is("")),
    (A, "bootstrap.servers", Type::List, High, Is("")),
    (P | C, "bootstrap.servers", Type::List, High, Required),
    (P, "buffer.memory", Type::Long, High, Is("33554432")),
    (C, "check.crcs", Type::Boolean, Low, Is("true")),
    (P | C | A, "client.dns.lookup", Type::String, Medium, Is("use_all_dns_ips")),
    (C, "client.id", Type::String, Low, Is("")),
    (P | A, "client.id", Type::String, Medium, Is("")),
    (C, "client.rack", Type::String, Low, Is("")),
    (P, "compression.gzip.level", Type::Int, Medium, Is("-1")),
    (P, "compression.lz4.level", Type::Int, Medium, Is("9")),
    (P, "compression.type", Type::String, High, Is("none")),
    (P, "compression.zstd.level", Type::Int, Medium, Is("3")),
    (P | C | A, "config.providers", Type::List, Low, Is("")),
    (A, "connections.max.idle.ms", Type::Long, Medium, Is("300000")),
    (P | C, "connections.max.idle.ms", Type::Long, Medium, Is("540000")),
    (C | A, "default.api.timeout.ms", Type::Int, Medium, Is("60000")),
    (P, "delivery.timeout.ms", Type::Int, Medium, Is("120000")),
    (C, "enable.auto.commit", Type::Boolean, Medium, Is("true")),
    (P, "enable.idempotence", Type::Boolean, Low, Is("true")),
    (A, "enable.metrics.push", Type::Boolean, Low, Is("false")),
    (P | C, "enable.metrics.push", Type::Boolean, Low, Is("true")),
    (C, "exclude.internal.topics", Type::Boolean, Medium, Is("true")),
    (C, "fetch.max.bytes", Type::Int, Medium, Is("52428800")),
    (C, "fetch.max.wait.ms", Type::Int, Low, Is("500")),
    (C, "fetch.min.bytes", Type::Int, High, Is("1")),
    (C, "group.id", Type::String, High, Absent),
    (C, "group.instance.id", Type::String, Medium, Absent),
    (C, "group.protocol", Type::String, High, Is("classic")),
    (C, "group.remote.assignor", Type::String, Medium, Absent),
    (C, "heartbeat.interval.ms", Type::Int, High, Is("3000")),
    (P | C, "interceptor.classes", Type::List, Low, Is("")),
    (C, "isolation.level", Type::String, Medium, Is("read_uncommitted")),
    (C, "key.deserializer", Type::Class, High, Required),
    (P, "key.serializer", Type::Class, High, Required),
    (P, "linger.ms", Type::Long, Medium, Is("5")),
    (P, "max.block.ms", Type::Long, Medium, Is("60000")),
    (P, "max.in.flight.requests.per.connection", Type::Int, Low, Is("5")),
    (C, "max.partition.fetch.bytes", Type::Int, High, Is("1048576")),
    (C, "max.poll.interval.ms", Type::Int, Medium, Is("300000")),
    (C, "max.poll.records", Type::Int, Medium, Is("500")),
    (P, "max.request.size", Type::Int, Medium, Is("1048576")),
    (P | C | A, "metadata.max.age.ms", Type::Long, Low, Is("300000")),
    (P, "metadata.max.idle.ms", Type::Long, Low, Is("300000")),
    (P | C | A, "metadata.recovery.rebootstrap.trigger.ms", Type::Long, Low, Is("300000")),
    (P | C | A, "metadata.recovery.strategy", Type::String, Low, Is("rebootstrap")),
    (P | C | A, "metric.reporters", Type::List, Low, Is("org.apache.kafka.common.metrics.JmxReporter")),
    (P | C | A, "metrics.num.samples", Type::Int, Low, Is("2")),
    (P | C | A, "metrics.recording.level", Type::String, Low, Is("INFO")),
    (P | C | A, "metrics.sample.window.ms", Type::Long, Low, Is("30000")),
    (
        C,
        "partition.assignment.strategy",
        Type::List,
        Medium,
        Is(
            "class org.apache.kafka.clients.consumer.RangeAssignor,class org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
        ),
    ),
    (P, "partitioner.adaptive.partitioning.enable", Type::Boolean, Low, Is("true")),
    (P, "partitioner.availability.timeout.ms", Type::Long, Low, Is("0")),
    (P, "partitioner.class", Type::Class, Medium, Absent),
    (P, "partitioner.ignore.keys", Type::Boolean, Medium, Is("false")),
    (P, "receive.buffer.bytes", Type::Int, Medium, Is("32768")),
    (C | A, "receive.buffer.bytes", Type::Int, Medium, Is("65536")),
    (P | C | A, "reconnect.backoff.max.ms", Type::Long, Low, Is("1000")),
    (P | C | A, "reconnect.backoff.ms", Type::Long, Low, Is("50")),
    (P | C | A, "request.timeout.ms", Type::Int, Medium, Is("30000")),
    (P, "retries", Type::Int, High, Is("2147483647")),
    (A, "retries", Type::Int, Low, Is("2147483647")),
    (P | C | A, "retry.backoff.max.ms", Type::Long, Low, Is("1000")),
    (P | C | A, "retry.backoff.ms", Type::Long, Low, Is("100")),
    (P | C | A, "sasl.client.callback.handler.class", Type::Class, Medium, Absent),
    (P | C | A, "sasl.jaas.config", Type::Password, Medium, Absent),
    (P | C | A, "sasl.kerberos.kinit.cmd", Type::String, Low, Is("/usr/bin/kinit")),
    (P | C | A, "sasl.kerberos.min.time.before.relogin", Type::Long, Low, Is("60000")),
    (P | C | A, "sasl.kerberos.service.name", Type::String, Medium, Absent),
    (P | C | A, "sasl.kerberos.ticket.renew.jitter", Type::Double, Low, Is("0.05")),
    (P | C | A, "sasl.kerberos.ticket.renew.window.factor", Type::Double, Low, Is("0.8")),
    (P | C | A, "sasl.login.callback.handler.class", Type::Class, Medium, Absent),
    (P | C | A, "sasl.login.class", Type::Class, Medium, Absent),
    (P | C | A, "sasl.login.connect.timeout.ms", Type::Int, Low, Absent),
    (P | C | A, "sasl.login.read.timeout.ms", Type::Int, Low, Absent),
    (P | C | A, "sasl.login.refresh.buffer.seconds", Type::Short, Low, Is("300")),
    (P | C | A, "sasl.login.refresh.min.period.seconds", Type::Short, Low, Is("60")),
    (P | C | A, "sasl.login.refresh.window.factor", Type::Double, Low, Is("0.8")),
    (P | C | A, "sasl.login.refresh.window.jitter", Type::Double, Low, Is("0.05")),
    (P | C | A, "sasl.login.retry.backoff.max.ms", Type::Long, Low, Is("10000")),
    (P | C | A, "sasl.login.retry.backoff.ms", Type::Long, Low, Is("100")),
    (P | C | A, "sasl.mechanism", Type::String, Medium, Is("GSSAPI")),
    (P | C | A, "sasl.oauthbearer.assertion.algorithm", Type::String, Medium, Is("RS256")),
    (P | C | A, "sasl.oauthbearer.assertion.claim.aud", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.claim.exp.seconds", Type::Int, Low, Is("300")),
    (P | C | A, "sasl.oauthbearer.assertion.claim.iss", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.claim.jti.include", Type::Boolean, Medium, Is("false")),
    (P | C | A, "sasl.oauthbearer.assertion.claim.nbf.seconds", Type::Int, Low, Is("60")),
    (P | C | A, "sasl.oauthbearer.assertion.claim.sub", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.file", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.private.key.file", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.private.key.passphrase", Type::Password, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.assertion.template.file", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.client.credentials.client.id", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.client.credentials.client.secret", Type::Password, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.clock.skew.seconds", Type::Int, Low, Is("30")),
    (P | C | A, "sasl.oauthbearer.expected.audience", Type::List, Low, Is("")),
    (P | C | A, "sasl.oauthbearer.expected.issuer", Type::String, Low, Absent),
    (P | C | A, "sasl.oauthbearer.header.urlencode", Type::Boolean, Low, Is("false")),
    (P | C | A, "sasl.oauthbearer.jwks.endpoint.refresh.ms", Type::Long, Low, Is("3600000")),
    (P | C | A, "sasl.oauthbearer.jwks.endpoint.retry.backoff.max.ms", Type::Long, Low, Is("10000")),
    (P | C | A, "sasl.oauthbearer.jwks.endpoint.retry.backoff.ms", Type::Long, Low, Is("100")),
    (P | C | A, "sasl.oauthbearer.jwks.endpoint.url", Type::String, Medium, Absent),
    (
        P | C | A,
        "sasl.oauthbearer.jwt.retriever.class",
        Type::Class,
        Medium,
        Is("org.apache.kafka.common.security.oauthbearer.DefaultJwtRetriever"),
    ),
    (
        P | C | A,
        "sasl.oauthbearer.jwt.validator.class",
        Type::Class,
        Medium,
        Is("org.apache.kafka.common.security.oauthbearer.DefaultJwtValidator"),
    ),
    (P | C | A, "sasl.oauthbearer.scope", Type::String, Medium, Absent),
    (P | C | A, "sasl.oauthbearer.scope.claim.name", Type::String, Low, Is("scope")),
    (P | C | A, "sasl.oauthbearer.sub.claim.name", Type::String, Low, Is("sub")),
    (P | C | A, "sasl.oauthbearer.token.endpoint.url", Type::String, Medium, Absent),
    (P | C | A, "security.protocol", Type::String, Medium, Is("PLAINTEXT")),
    (P | C | A, "security.providers", Type::String, Low, Absent),
    (P | C | A, "send.buffer.bytes", Type::Int, Medium, Is("131072")),
    (C, "session.timeout.ms", Type::Int, High, Is("45000")),
    (P | C | A, "socket.connection.setup.timeout.max.ms", Type::Long, Medium, Is("30000")),
    (P | C | A, "socket.connection.setup.timeout.ms", Type::Long, Medium, Is("10000")),
    (P | C | A, "ssl.cipher.suites", Type::List, Low, Is("")),
    (P | C | A, "ssl.enabled.protocols", Type::List, Medium, Is("TLSv1.2,TLSv1.3")),
    (P | C | A, "ssl.endpoint.identification.algorithm", Type::String, Low, Is("https")),
    (P | C | A, "ssl.engine.factory.class", Type::Class, Low, Absent),
    (P | C | A, "ssl.key.password", Type::Password, High, Absent),
    (P | C | A, "ssl.keymanager.algorithm", Type::String, Low, Is("SunX509")),
    (P | C | A, "ssl.keystore.certificate.chain", Type::Password, High, Absent),
    (P | C | A, "ssl.keystore.key", Type::Password, High, Absent),
    (P | C | A, "ssl.keystore.location", Type::String, High, Absent),
    (P | C | A, "ssl.keystore.password", Type::Password, High, Absent),
    (P | C | A, "ssl.keystore.type", Type::String, Medium, Is("JKS")),
    (P | C | A, "ssl.protocol", Type::String, Medium, Is("TLSv1.3")),
    (P | C | A, "ssl.provider", Type::String, Medium, Absent),
    (P | C | A, "ssl.secure.random.implementation", Type::String, Low, Absent),
    (P | C | A, "ssl.trustmanager.algorithm", Type::String, Low, Is("PKIX")),
    (P | C | A, "ssl.truststore.certificates", Type::Password, High, Absent),
    (P | C | A, "ssl.truststore.location", Type::String, High, Absent),
    (P | C | A, "ssl.truststore.password", Type::Password, High, Absent),
    (P | C | A, "ssl.truststore.type", Type::String, Medium, Is("JKS")),
    (P, "transaction.timeout.ms", Type::Int, Low, Is("60000")),
    (P, "transaction.two.phase.commit.enable", Type::Boolean, Low, Is("false")),
    (P, "transactional.id", Type::String, Low, Absent),
    (C, "value.deserializer", Type::Class, High, Required),
    (P, "value.serializer", Type::Class, High, Required),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::client_settings::table;

    #[test]
    fn defaults_fit_their_types() {
        for (_, name, setting_type, _, default) in DEFINITIONS {
            if let Is(text) = default {
                assert!(connect_api::config_def::parse_type(*setting_type, text).is_ok(), "{name}");
            }
        }
    }

    #[test]
    fn each_kind_has_its_own() {
        let shown =
            |kind, name| definition(kind, name).map(|key| (key.importance, key.default_text().unwrap_or_default()));
        assert_eq!(shown(ClientKind::Producer, "acks"), Some((Low, "all".to_owned())));
        assert_eq!(shown(ClientKind::Consumer, "acks"), None);
        assert_eq!(shown(ClientKind::Producer, "retries"), Some((High, i32::MAX.to_string())));
        assert_eq!(shown(ClientKind::Admin, "retries"), Some((Low, i32::MAX.to_string())));
        let servers = definition(ClientKind::Consumer, "bootstrap.servers");
        assert!(servers.is_some_and(|key| key.is_required()));
    }

    /// The two tables are about the same settings.
    #[test]
    fn what_is_defined_has_a_rule() {
        for (bit, kind) in [(P, ClientKind::Producer), (C, ClientKind::Consumer), (A, ClientKind::Admin)] {
            let of_kind = DEFINITIONS.iter().filter(|(kinds, ..)| kinds & bit != 0).map(|(_, name, ..)| *name);
            let is_known = |name: &str| table::rule(kind, name).is_some() || super::super::security::is_about(name);
            let unknown: Vec<&str> = of_kind.filter(|name| !is_known(name)).collect();
            assert!(unknown.is_empty(), "{kind:?}: {unknown:?}");
        }
    }
}
