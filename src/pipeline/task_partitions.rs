//! Which partitions a sink task reads: a pure function of topic, partition and number of tasks. There is no group and no
//! rebalance: a new topic or partition never moves another one.

use std::collections::{BTreeMap, BTreeSet};

use connect_api::{ConnectError, Props, Result, TopicPartition};
use regex::Regex;

use crate::backend::FoundTopic;

/// Topics that Kafka keeps for itself. A pattern does not match them (`exclude.internal.topics`).
const INTERNAL_TOPICS: [&str; 3] = ["__consumer_offsets", "__transaction_state", "__share_group_state"];

/// The topics of a sink connector.
#[derive(Debug, Clone)]
pub enum Topics {
    /// `topics`.
    Listed(Vec<String>),
    /// `topics.regex`: those whose whole name matches, also those that are still to come.
    Matching(Regex),
}

impl Topics {
    /// Reads `topics` and `topics.regex`; exactly one of them has to be there (Java: `SinkConnectorConfig`).
    pub fn from_props(props: &Props) -> Result<Topics> {
        let text = |name: &str| props.get(name).map_or("", |text| text.trim());
        let listed = text("topics").split(',').map(str::trim).filter(|topic| !topic.is_empty());
        let listed: Vec<_> = listed.map(str::to_owned).collect();
        match (listed.is_empty(), text("topics.regex")) {
            (true, "") => Err(ConnectError::config("one of topics and topics.regex is needed")),
            (false, "") => Ok(Topics::Listed(listed)),
            (true, pattern) => Ok(Topics::Matching(whole(pattern)?)),
            (false, _) => Err(ConnectError::config("only one of topics and topics.regex may be set")),
        }
    }
}

/// The pattern for whole names. Matching takes time that is linear in the name, whatever the pattern.
fn whole(pattern: &str) -> Result<Regex> {
    // Alone first: put between brackets, `a)|(b` would be one.
    Regex::new(pattern).and_then(|_| Regex::new(&format!(r"\A(?:{pattern})\z"))).map_err(|error| {
        let text = error.to_string();
        // The text has the pattern with a mark below, then the reason in its last line.
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        ConnectError::config(format!(
            "topics.regex is {pattern:?}, which cannot be used: {reason}. Patterns are those of the Rust crate regex: \
             as Java's, without look-around, back references and possessive quantifiers"
        ))
    })
}

/// The topics and the place of one task among those of its connector.
#[derive(Debug, Clone)]
pub struct Selection {
    topics: Topics,
    task: u32,
    tasks: u32,
}

impl Selection {
    /// Task number `task` of `tasks`.
    pub fn new(topics: Topics, task: u32, tasks: u32) -> Selection {
        Selection { topics, task, tasks: tasks.max(1) }
    }

    /// The names, where they are listed.
    pub fn listed(&self) -> Option<&[String]> {
        match &self.topics {
            Topics::Listed(names) => Some(names),
            Topics::Matching(_) => None,
        }
    }

    /// Whether the connector reads this topic.
    pub fn selects(&self, topic: &str) -> bool {
        match &self.topics {
            Topics::Listed(names) => names.iter().any(|name| name == topic),
            Topics::Matching(pattern) => !INTERNAL_TOPICS.contains(&topic) && pattern.is_match(topic),
        }
    }

    /// Whether this task reads a partition, when there is one.
    pub fn owns(&self, partition: &TopicPartition) -> bool {
        self.selects(&partition.topic) && task_of(&partition.topic, partition.partition, self.tasks) == self.task
    }

    /// The partitions of this task.
    pub fn partitions(&self, found: &BTreeMap<String, FoundTopic>) -> BTreeSet<TopicPartition> {
        let partitions = found.iter().flat_map(|(topic, found)| {
            (0..found.partitions).map(move |partition| TopicPartition::new(topic.as_str(), partition))
        });
        partitions.filter(|partition| self.owns(partition)).collect()
    }

    /// Whether everything is there that is known to be wanted: each listed topic, or any that matches.
    pub fn is_complete(&self, found: &BTreeMap<String, FoundTopic>) -> bool {
        match &self.topics {
            Topics::Listed(names) => names.iter().all(|name| found.contains_key(name)),
            Topics::Matching(_) => !found.is_empty(),
        }
    }
}

/// The task that reads a partition, of `tasks` tasks. Partitions of a topic go round the tasks; topics begin at different
/// ones. The hash is FNV-1a with 64 bits over the name's UTF-8 and must never change: running tasks would read twice.
pub fn task_of(topic: &str, partition: i32, tasks: u32) -> u32 {
    let hash = topic
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Partition numbers are not negative.
    (hash.wrapping_add(partition as u64) % u64::from(tasks)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topics(settings: &[(&str, &str)]) -> Result<Topics> {
        Topics::from_props(&settings.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect())
    }

    fn found(topics: &[(&str, i32)]) -> BTreeMap<String, FoundTopic> {
        topics
            .iter()
            .map(|(name, partitions)| (name.to_string(), FoundTopic { id: 0, partitions: *partitions }))
            .collect()
    }

    #[test]
    fn frozen_values() {
        let tasks = |topic| (0..4).map(|partition| task_of(topic, partition, 3)).collect::<Vec<_>>();
        assert_eq!(tasks("orders"), [1, 2, 0, 1]);
        assert_eq!(tasks("größe"), [1, 2, 0, 1]);
    }

    #[test]
    fn every_partition_has_one_task_and_growth_moves_none() {
        for setting in [("topics", "a,b, missing"), ("topics.regex", "a|b|miss.*")] {
            let topics = topics(&[setting]).unwrap();
            let before = found(&[("a", 7), ("b", 5)]);
            let after = found(&[("a", 9), ("b", 5), ("missing", 2)]);
            let mut seen = 0;
            for task in 0..4 {
                let selection = Selection::new(topics.clone(), task, 4);
                let old = selection.partitions(&before);
                let new = selection.partitions(&after);
                assert!(old.is_subset(&new));
                seen += new.len();
            }
            assert_eq!(seen, 16);
        }
    }

    #[test]
    fn a_pattern_has_to_match_the_whole_name_and_no_internal_topic() {
        let selects = |pattern: &str, topic: &str| {
            Selection::new(topics(&[("topics.regex", pattern)]).unwrap(), 0, 1).selects(topic)
        };
        assert!(selects("orders-.*", "orders-eu") && !selects("orders-.*", "my-orders-eu"));
        assert!(selects("a|bc", "bc") && !selects("a|bc", "abc") && !selects("^a$|^b", "bc"));
        assert!(selects("(?i)ORDERS", "orders") && selects("[a-z&&[^x]]+", "abc") && !selects("[a-z&&[^x]]+", "axc"));
        assert!(selects(".*", "connect-status") && selects("__.*", "__mine"));
        for internal in INTERNAL_TOPICS {
            assert!(!selects(".*", internal));
        }
        // An engine that backtracks would need longer than the universe has.
        assert!(!selects("(a+)+b", &"a".repeat(249)));
    }

    #[test]
    fn one_of_both_settings_is_needed_and_patterns_have_to_be_ones() {
        let error = |settings: &[(&str, &str)]| topics(settings).unwrap_err().to_string();
        assert!(
            error(&[]).contains("is needed") && error(&[("topics", " , "), ("topics.regex", "")]).contains("is needed")
        );
        assert!(error(&[("topics", "a"), ("topics.regex", "b")]).contains("only one"));
        assert!(error(&[("topics.regex", "(?!a).*")]).contains("look-around"));
        assert!(error(&[("topics.regex", r"(a)\1")]).contains("backreferences"));
        assert!(error(&[("topics.regex", "a)|(b")]).contains("a)|(b"));
        assert!(error(&[("topics.regex", "((a{1000}){1000}){1000}")]).contains("exceeds size limit"));
    }

    #[test]
    fn what_is_wanted_and_not_there_is_known() {
        let selection = |setting| Selection::new(topics(&[setting]).unwrap(), 0, 1);
        assert!(selection(("topics", "a")).is_complete(&found(&[("a", 1)])));
        assert!(!selection(("topics", "a,b")).is_complete(&found(&[("a", 1)])));
        assert!(!selection(("topics.regex", ".*")).is_complete(&found(&[])));
        let selection = Selection::new(topics(&[("topics", "t")]).unwrap(), 1, 2);
        let owned = |partition| selection.owns(&TopicPartition::new("t", partition));
        assert_ne!(owned(0), owned(1));
        assert!(!selection.owns(&TopicPartition::new("other", 0)) && !selection.owns(&TopicPartition::new("other", 1)));
    }
}
