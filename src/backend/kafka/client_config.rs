//! What always holds for a client, and the defaults that are not librdkafka's: Java's where a user would notice the difference,
//! bounds of memory elsewhere.

use crate::backend::{ClientSettings, Isolation};

/// Records that a consumer reads ahead over all its partitions, in KiB.
const READ_AHEAD_KIB: &str = "16384";
/// Records that a producer holds for all its handles, in KiB: twice Java's `buffer.memory`, since handles share it.
const WRITE_BUFFER_KIB: &str = "65536";
/// Java's `delivery.timeout.ms` of source tasks: they wait for a broker as long as it takes.
const FOREVER_MS: &str = "2147483647";
/// A group that nobody joins; librdkafka wants a name before it lets a consumer be assigned.
const NO_GROUP: &str = "connect-node-unused";

/// How a client comes back to brokers that are all down: half of this is how long librdkafka waits between two attempts as long as
/// anything wants a connection, however many attempts there were. Java's 50 ms, which grow, would be 38 attempts a second for each
/// client, and half a CPU for a worker.
const RECONNECT_MS: &str = "500";
/// Java's default; how late a client notices at most that brokers are back.
const RECONNECT_MAX_MS: &str = "1000";

/// Java's defaults of both kinds of clients.
const COMMON_DEFAULTS: [(&str, &str); 5] = [
    ("client.id", "connect-node"),
    ("reconnect.backoff.ms", RECONNECT_MS),
    ("reconnect.backoff.max.ms", RECONNECT_MAX_MS),
    ("socket.keepalive.enable", "true"),
    // An idle connection that the broker closes is no news.
    ("log.connection.close", "false"),
];
const COMMON_RULES: [(&str, &str); 1] = [("statistics.interval.ms", "0")];

const PRODUCER_DEFAULTS: [(&str, &str); 6] = [
    // A new producer connects twice before it may send, to learn its id or its coordinator, and waits so long in between: with 500 ms the
    // first record of a source was acknowledged 600 ms after it was sent, with 50 ms after 100 ms. A worker has three producers.
    ("reconnect.backoff.ms", "50"),
    ("linger.ms", "5"),
    ("batch.num.messages", "100000"),
    // Handles have their own bounds, in bytes.
    ("queue.buffering.max.messages", "0"),
    ("queue.buffering.max.kbytes", WRITE_BUFFER_KIB),
    ("message.max.bytes", "1048576"),
];
const PRODUCER_RULES: [(&str, &str); 3] =
    [("enable.idempotence", "true"), ("acks", "all"), ("partitioner", "murmur2_random")];

const CONSUMER_DEFAULTS: [(&str, &str); 5] = [
    // As with producers: half of this stands between the start of a client's first sink and its first record. Sinks with overrides have clients
    // of their own, and there may be many, so less eager.
    ("reconnect.backoff.ms", "100"),
    ("group.id", NO_GROUP),
    ("queued.max.messages.kbytes", READ_AHEAD_KIB),
    // Small records cost several times their size in the client: this many are 10 MB of them, and 10 ms of work.
    ("queued.min.messages", "20000"),
    // How long a partition rests when the bound above is reached. librdkafka's second would be felt as a stall.
    ("fetch.queue.backoff.ms", "10"),
];
const CONSUMER_RULES: [(&str, &str); 4] = [
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
];

const SHARED_CONSUMER_DEFAULTS: [(&str, &str); 2] = [
    // A partition that gets room, or is new, waits for the request that is under way, and so long may that be when all others are idle.
    ("fetch.wait.max.ms", "250"),
    // All records of an answer stay in memory until the last of them is taken: a reader that does not read keeps what others got with it.
    ("fetch.max.bytes", "4194304"),
];

/// Other names of the same setting. Two of them at once would be decided by their order.
const ALIASES: [(&str, &str); 8] = [
    ("metadata.broker.list", "bootstrap.servers"),
    ("request.required.acks", "acks"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("delivery.timeout.ms", "message.timeout.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
];

fn with(settings: &ClientSettings, defaults: &[&[(&str, &str)]], rules: &[&[(&str, &str)]]) -> ClientSettings {
    let mut all: ClientSettings = defaults.concat().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    for (name, value) in settings {
        let name = ALIASES.iter().find(|(alias, _)| alias == name).map_or(name.as_str(), |(_, name)| name);
        all.insert(name.to_owned(), value.clone());
    }
    all.extend(rules.concat().into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())));
    all
}

/// `settings` in front of those that say how to reach the brokers. Settings that name brokers are complete, and get nothing added: a login must not
/// go to brokers that it is not for.
pub(super) fn over(common: &ClientSettings, settings: &ClientSettings) -> ClientSettings {
    if settings.contains_key("bootstrap.servers") {
        return settings.clone();
    }
    common.iter().chain(settings).map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Settings of a shared producer.
pub(super) fn producer(settings: &ClientSettings) -> ClientSettings {
    let forever = [("message.timeout.ms", FOREVER_MS)];
    let mut all = with(settings, &[&COMMON_DEFAULTS, &PRODUCER_DEFAULTS, &forever], &[&COMMON_RULES, &PRODUCER_RULES]);
    all.remove("transactional.id");
    all
}

/// Settings of the producer of a transactional id. Its records cannot outlive their transaction, so there is no time-out of their own.
pub(super) fn transactional(settings: &ClientSettings, transactional_id: &str) -> ClientSettings {
    let id = [("transactional.id", transactional_id)];
    let rules: [&[_]; 3] = [&COMMON_RULES, &PRODUCER_RULES, &id];
    let mut all = with(settings, &[&COMMON_DEFAULTS, &PRODUCER_DEFAULTS], &rules);
    all.remove("message.timeout.ms");
    all
}

/// Settings of a consumer.
pub(super) fn consumer(settings: &ClientSettings, isolation: Isolation) -> ClientSettings {
    consumer_with(settings, isolation, &[])
}

/// Settings of a consumer that readers share.
pub(super) fn shared_consumer(settings: &ClientSettings, isolation: Isolation) -> ClientSettings {
    consumer_with(settings, isolation, &SHARED_CONSUMER_DEFAULTS)
}

fn consumer_with(settings: &ClientSettings, isolation: Isolation, more: &[(&str, &str)]) -> ClientSettings {
    let level = level(isolation);
    with(settings, &[&COMMON_DEFAULTS, &CONSUMER_DEFAULTS, more], &[&COMMON_RULES, &CONSUMER_RULES, &level])
}

fn level(isolation: Isolation) -> [(&'static str, &'static str); 1] {
    let level = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    [("isolation.level", level)]
}

/// Connects the client of admin requests to all brokers. One that connects where it has to asks for a connection at each change of a broker's
/// state while a request waits for that broker, and each asking skips the wait between two attempts: 1,400 attempts a second while the
/// brokers are down (librdkafka 2.12.1).
/// It also says that a broker closed the connection: all that is heard of a listener with another protocol.
const ADMIN_RULES: [(&str, &str); 2] = [("log.connection.close", "true"), ("enable.sparse.connections", "false")];

/// Settings of the client of admin requests: a consumer with a group. Where a coordinator answers a question for committed offsets that it is not the one,
/// or not yet, librdkafka 2.12.1 tells the group of the client to look for the coordinator, and reads a null pointer where the client has none.
/// The isolation decides which ends it finds.
pub(super) fn admin(settings: &ClientSettings, isolation: Isolation) -> ClientSettings {
    let group = [("group.id", NO_GROUP), ("enable.auto.commit", "false")];
    with(settings, &[&COMMON_DEFAULTS], &[&COMMON_RULES, &ADMIN_RULES, &group, &level(isolation)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> ClientSettings {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn rules_win_over_settings_and_settings_over_defaults() {
        let all = producer(&settings(&[("linger.ms", "0"), ("acks", "1"), ("enable.idempotence", "false")]));
        assert_eq!(all["linger.ms"], "0");
        assert_eq!(all["acks"], "all");
        assert_eq!(all["enable.idempotence"], "true");
        assert_eq!(all["message.timeout.ms"], FOREVER_MS);
    }

    #[test]
    fn a_login_does_not_go_to_brokers_that_it_is_not_for() {
        let common = settings(&[("bootstrap.servers", "a:1"), ("sasl.username", "u"), ("sasl.password", "p")]);
        let elsewhere = settings(&[("bootstrap.servers", "c:3"), ("linger.ms", "1")]);
        assert_eq!(over(&common, &elsewhere), elsewhere);
        assert_eq!(over(&common, &settings(&[("linger.ms", "1")])).len(), 4);
    }

    #[test]
    fn an_alias_is_the_setting_itself() {
        let all = producer(&settings(&[("delivery.timeout.ms", "1000"), ("request.required.acks", "0")]));
        assert_eq!(all["message.timeout.ms"], "1000");
        assert_eq!(all["acks"], "all");
        assert!(!all.contains_key("delivery.timeout.ms") && !all.contains_key("request.required.acks"));
    }

    #[test]
    fn a_transactional_producer_has_its_id_and_no_time_out_of_records() {
        let all = transactional(&settings(&[("message.timeout.ms", "5"), ("transactional.id", "other")]), "mine");
        assert_eq!(all["transactional.id"], "mine");
        assert!(!all.contains_key("message.timeout.ms"));
        assert!(!producer(&settings(&[("transactional.id", "other")])).contains_key("transactional.id"));
    }

    /// What keeps an outage of all brokers cheap, unless the user says otherwise.
    #[test]
    fn clients_do_not_hammer_brokers_that_are_down() {
        let none = ClientSettings::new();
        let consumer = consumer(&none, Isolation::ReadCommitted);
        let admin = |settings| admin(settings, Isolation::ReadCommitted);
        for (all, first) in [(consumer, "100"), (admin(&none), "500"), (producer(&none), "50")] {
            assert_eq!((&*all["reconnect.backoff.ms"], &*all["reconnect.backoff.max.ms"]), (first, "1000"));
        }
        assert_eq!(admin(&none)["enable.sparse.connections"], "false");
        assert_eq!(admin(&settings(&[("reconnect.backoff.ms", "50")]))["reconnect.backoff.ms"], "50");
    }

    #[test]
    fn what_readers_share_is_not_held_up_for_long_unless_the_user_says_so() {
        let shared = |pairs: &[_]| shared_consumer(&settings(pairs), Isolation::ReadCommitted);
        assert_eq!(shared(&[])["fetch.wait.max.ms"], "250");
        assert_eq!(shared(&[("fetch.wait.max.ms", "500")])["fetch.wait.max.ms"], "500");
        assert!(!consumer(&settings(&[]), Isolation::ReadCommitted).contains_key("fetch.wait.max.ms"));
        assert_eq!(shared(&[])["isolation.level"], "read_committed");
    }

    #[test]
    fn a_client_of_requests_finds_the_ends_of_its_isolation_whatever_the_user_says() {
        let user = settings(&[("isolation.level", "read_committed")]);
        assert_eq!(admin(&user, Isolation::ReadUncommitted)["isolation.level"], "read_uncommitted");
        assert_eq!(admin(&settings(&[]), Isolation::ReadCommitted)["isolation.level"], "read_committed");
    }

    #[test]
    fn a_consumer_never_resets_or_commits_by_itself() {
        let all =
            consumer(&settings(&[("auto.offset.reset", "earliest"), ("group.id", "g")]), Isolation::ReadCommitted);
        assert_eq!(all["auto.offset.reset"], "error");
        assert_eq!(all["enable.auto.commit"], "false");
        assert_eq!(all["isolation.level"], "read_committed");
        assert_eq!(all["group.id"], "g");
    }
}
