use std::collections::BTreeMap;

use super::super::topics::TopicError;
use super::*;

#[tokio::test]
async fn a_missing_topic_is_created_compacted() {
    let backend = memory::open("storage-topics-create");
    let mut wanted = internal(TopicPurpose::Config, "c", 7);
    wanted.config.insert("cleanup.policy".into(), "delete".into());
    let found = create_or_check(&*backend.admin(), &wanted).await.unwrap();
    assert_eq!((found.partitions, found.setting("cleanup.policy")), (1, Some("compact")));
    let found = create_or_check(&*backend.admin(), &internal(TopicPurpose::Status, "s", 5)).await.unwrap();
    assert_eq!(found.partitions, 5);
    // The second time it is there.
    create_or_check(&*backend.admin(), &wanted).await.unwrap();
}

#[tokio::test]
async fn a_topic_that_would_lose_records_is_refused() {
    let backend = memory::open("storage-topics-check");
    for policy in ["delete", "compact,delete"] {
        let config = [("cleanup.policy".to_owned(), policy.to_owned())].into();
        let topic =
            crate::backend::NewTopic { name: policy.replace(',', "-"), partitions: 1, replication_factor: 1, config };
        backend.admin().create_topic(&topic).await.unwrap();
        let error =
            create_or_check(&*backend.admin(), &internal(TopicPurpose::Offset, &topic.name, 25)).await.unwrap_err();
        assert!(matches!(&error, TopicError::Policy { found, .. } if found == policy), "{error}");
        assert!(error.to_string().contains("offset.storage.topic"), "{error}");
    }
}

#[tokio::test]
async fn a_config_topic_of_several_partitions_is_refused() {
    let backend = memory::open("storage-topics-partitions");
    create_or_check(&*backend.admin(), &internal(TopicPurpose::Status, "c", 2)).await.unwrap();
    let error = create_or_check(&*backend.admin(), &internal(TopicPurpose::Config, "c", 1)).await.unwrap_err();
    assert!(matches!(error, TopicError::Partitions { found: 2, .. }), "{error}");
}

#[tokio::test]
async fn topics_with_registers_keep_young_records() {
    let backend = memory::open("storage-topics-lag");
    let admin = backend.admin();
    let lag = async |purpose, name: &str| {
        create_or_check(&*admin, &internal(purpose, name, 1)).await.unwrap();
        let found = admin.describe_topic(name).await.unwrap().unwrap();
        found.setting("min.compaction.lag.ms").map(str::to_owned)
    };
    assert_eq!(lag(TopicPurpose::Status, "created").await.as_deref(), Some("60000"));
    assert_eq!(lag(TopicPurpose::Offset, "offsets").await.as_deref(), Some("0"), "nobody's register");
    for (name, before, after) in
        [("java", None, "60000"), ("short", Some("500"), "60000"), ("long", Some("70000"), "70000")]
    {
        let mut config = BTreeMap::from([("cleanup.policy".to_owned(), "compact".to_owned())]);
        config.extend(before.map(|lag| ("min.compaction.lag.ms".to_owned(), lag.to_owned())));
        let topic = crate::backend::NewTopic { name: name.into(), partitions: 1, replication_factor: 1, config };
        admin.create_topic(&topic).await.unwrap();
        assert_eq!(lag(TopicPurpose::Config, name).await.as_deref(), Some(after), "{name}");
    }
}
