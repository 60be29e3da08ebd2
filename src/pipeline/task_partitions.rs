//! Which partitions a sink task reads: a pure function of topic, partition and number of tasks. There is no group and no
//! rebalance: a new topic or partition never moves another one.

use std::collections::BTreeMap;

use connect_api::TopicPartition;

/// The task that reads a partition, of `tasks` tasks. Partitions of a topic go round the tasks; topics begin at different
/// ones. The hash is FNV-1a with 64 bits over the name's UTF-8 and must never change: running tasks would read twice.
pub fn task_of(topic: &str, partition: i32, tasks: u32) -> u32 {
    let hash = topic
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    // Partition numbers are not negative.
    (hash.wrapping_add(partition as u64) % u64::from(tasks)) as u32
}

/// The partitions of task number `task` among those of `topics` that exist; `counts` are the partition counts of all topics.
pub fn partitions_of_task(
    topics: &[String],
    task: u32,
    tasks: u32,
    counts: &BTreeMap<String, i32>,
) -> Vec<TopicPartition> {
    let existing = topics.iter().filter_map(|topic| counts.get(topic).map(|count| (topic, *count)));
    existing
        .flat_map(|(topic, count)| (0..count).map(move |partition| TopicPartition::new(topic.as_str(), partition)))
        .filter(|of| task_of(&of.topic, of.partition, tasks) == task)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frozen_values() {
        let tasks = |topic| (0..4).map(|partition| task_of(topic, partition, 3)).collect::<Vec<_>>();
        assert_eq!(tasks("orders"), [1, 2, 0, 1]);
        assert_eq!(tasks("größe"), [1, 2, 0, 1]);
    }

    #[test]
    fn every_partition_has_one_task_and_growth_moves_none() {
        let topics: Vec<String> = vec!["a".into(), "b".into(), "missing".into()];
        let before = BTreeMap::from([("a".to_owned(), 7), ("b".to_owned(), 5)]);
        let after = BTreeMap::from([("a".to_owned(), 9), ("b".to_owned(), 5), ("missing".to_owned(), 2)]);
        let mut seen = 0;
        for task in 0..4 {
            let old = partitions_of_task(&topics, task, 4, &before);
            let new = partitions_of_task(&topics, task, 4, &after);
            assert!(old.iter().all(|partition| new.contains(partition)));
            seen += new.len();
        }
        assert_eq!(seen, 16);
    }
}
