//! What is demanded of a configuration before it is written, and changes of single settings, beside others that write at the same time.

use std::collections::BTreeMap;

use futures_util::future::{join, join_all};

use super::*;
use crate::actors::handle::{ConnectorInfo, HerderResult, Precondition, Versions};
use crate::actors::herder::configs::{MERGES_MAX, Patch};
use crate::backend::Isolation;
use crate::storage::config_store::ConfigStoreSettings;
use crate::storage::plan;
use crate::storage::records::{RawConfig, with_values};
use crate::storage::topic_log::{CompareError, LogSettings};

/// Clients that do the same thing at once; fewer than a PATCH has attempts.
const CLIENTS: usize = 20;

/// How often two workers race.
const ROUNDS: usize = 20;

fn settings(more: &[(&str, &str)]) -> BTreeMap<String, Option<String>> {
    let all = [
        ("name", "a"),
        ("connector.class", "FileStreamSource"),
        ("topic", "t"),
        ("file", "/nothing/to/read/for/a/test"),
    ];
    all.iter().chain(more).map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect()
}

fn at(version: i64) -> Precondition {
    Precondition { present: Some(Versions::OneOf(vec![version])), absent: false }
}

fn present() -> Precondition {
    Precondition { present: Some(Versions::Any), absent: false }
}

fn absent() -> Precondition {
    Precondition { present: None, absent: true }
}

fn is_unmet<T>(result: &HerderResult<T>) -> bool {
    matches!(result, Err(HerderError::PreconditionFailed(_)))
}

impl Rig {
    async fn put_a(&self, more: &[(&str, &str)], precondition: Precondition) -> HerderResult<(bool, ConnectorInfo)> {
        let config = settings(more);
        self.handle.ask(|reply| HerderRequest::PutConfig { name: "a".into(), config, precondition, reply }).await
    }

    /// A `None` removes a setting.
    async fn patch_a(
        &self,
        changes: &[(&str, Option<&str>)],
        precondition: Precondition,
    ) -> HerderResult<ConnectorInfo> {
        let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect();
        self.handle.ask(|reply| HerderRequest::PatchConfig { name: "a".into(), changes, precondition, reply }).await
    }

    async fn delete_a(&self, precondition: Precondition) -> HerderResult<()> {
        self.handle.ask(|reply| HerderRequest::Delete("a".into(), precondition, reply)).await
    }

    async fn info_of_a(&self) -> HerderResult<ConnectorInfo> {
        self.handle.ask(|reply| HerderRequest::ConnectorInfo("a".into(), reply)).await
    }

    /// The version of the connector's record when the log was read to its end; any record would change it.
    async fn version_of_a(&self, store: &ConfigStore) -> Option<i64> {
        store.log().read_to_end(PATIENCE).await.unwrap();
        store.snapshot().connector("a").map(|entry| entry.offset)
    }

    /// The config topic as another worker has it, with writes of its own.
    pub(super) async fn other_worker(&self) -> ConfigStore {
        let backend = backend::open(&format!("memory:{}", self.cluster), &ClientSettings::new()).unwrap();
        let settings = ConfigStoreSettings {
            log: LogSettings {
                reader: ClientSettings::new(),
                writer: ClientSettings::new(),
                writer_max_bytes: 1 << 20,
                isolation: Isolation::ReadCommitted,
            },
            transactional_writer: ClientSettings::new(),
            transactional_id: "connect-cluster-g".into(),
            writer: Some("another".into()),
        };
        ConfigStore::open(backend, "configs", settings).await.unwrap()
    }

    /// Begins a PATCH somewhere in its course, and waits for its answer.
    async fn go_on(
        &self,
        changes: &[(&str, &str)],
        checked: Option<(RawConfig, HerderResult<()>)>,
        merges: u32,
    ) -> HerderResult<ConnectorInfo> {
        let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let (reply, patched) = oneshot::channel();
        let precondition = Precondition::default();
        let patch = Patch { name: "a".into(), changes, precondition, reply, checked, merges };
        within(&self.herder().await, |herder, context| herder.write_merged(patch, context)).await.unwrap();
        timeout(PATIENCE, patched).await.expect("it is answered in time").expect("it is answered")
    }
}

/// Puts a configuration past the worker, if the version is this one.
async fn put_elsewhere(store: &ConfigStore, salt: String, version: i64) -> Result<Vec<i64>, CompareError<HerderError>> {
    let check = move |state: &ClusterState| {
        at(version).check("a", state.connector("a").map(|entry| entry.offset))?;
        Ok(plan::put_connector(state, "a", settings(&[("salt", &salt)]), None))
    };
    store.put(check).await
}

#[test]
fn answers_name_the_version_that_was_written() {
    in_a_worker(async |rig| {
        rig.joined().await;
        // The record of the initial state comes before that of the connector.
        let (name, config, initial_state) = ("a".to_owned(), settings(&[]), Some(TargetState::Stopped));
        let create =
            rig.handle.ask(|reply| HerderRequest::Create { name, config, initial_state, reply }).await.unwrap();
        let store = rig.other_worker().await;
        assert_eq!(rig.version_of_a(&store).await, Some(create.version));
        assert_eq!(rig.info_of_a().await.unwrap().version, create.version);
        let (new, put) = rig.put_a(&[], at(create.version)).await.unwrap();
        assert!(!new && put.version > create.version);
        assert_eq!(rig.version_of_a(&store).await, Some(put.version));
        let patch = rig.patch_a(&[], at(put.version)).await.unwrap();
        assert!(patch.version > put.version, "a write without a change is one");
        assert_eq!(rig.version_of_a(&store).await, Some(patch.version));
        rig.delete_a(at(patch.version)).await.unwrap();
        let (new, again) = rig.put_a(&[], absent()).await.unwrap();
        assert!(new && again.version > patch.version);
        assert_eq!(rig.version_of_a(&store).await, Some(again.version));
    });
}

#[test]
fn what_does_not_hold_writes_nothing() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        for demand in [present(), at(0)] {
            assert!(is_unmet(&rig.put_a(&[], demand.clone()).await));
            assert!(is_unmet(&rig.patch_a(&[], demand.clone()).await));
            assert!(is_unmet(&rig.delete_a(demand).await));
        }
        assert_eq!(rig.version_of_a(&store).await, None);
        let (_, first) = rig.put_a(&[], absent()).await.unwrap();
        let (_, second) = rig.put_a(&[], present()).await.unwrap();
        let none = Precondition { present: Some(Versions::OneOf(vec![])), absent: false };
        for demand in [at(first.version), at(second.version + 1), none] {
            assert!(is_unmet(&rig.put_a(&[("salt", "1")], demand.clone()).await));
            assert!(is_unmet(&rig.patch_a(&[("salt", Some("1"))], demand.clone()).await));
            assert!(is_unmet(&rig.delete_a(demand).await));
        }
        assert!(is_unmet(&rig.put_a(&[("salt", "1")], absent()).await));
        assert_eq!(rig.version_of_a(&store).await, Some(second.version));
        // What is demanded is looked at before what is wrong with a merged configuration.
        assert!(is_unmet(&rig.patch_a(&[("topic", None)], at(first.version)).await));
    });
}

#[test]
fn of_many_with_the_same_version_one_writes() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let (_, before) = rig.put_a(&[], absent()).await.unwrap();
        let salts: Vec<String> = (0..CLIENTS).map(|client| client.to_string()).collect();
        let more: Vec<_> = salts.iter().map(|salt| [("salt", salt.as_str())]).collect();
        let puts = join_all(more.iter().map(|more| rig.put_a(more, at(before.version)))).await;
        assert_eq!(puts.iter().filter(|put| put.is_ok()).count(), 1);
        assert_eq!(puts.iter().filter(|put| is_unmet(put)).count(), CLIENTS - 1);
        let (_, written) = puts.into_iter().flatten().next().expect("one has written");
        let now = rig.info_of_a().await.unwrap();
        assert_eq!((now.version, now.config), (written.version, written.config));
        let deletions = join_all((0..CLIENTS).map(|_| rig.delete_a(at(written.version)))).await;
        assert_eq!(deletions.iter().filter(|deleted| deleted.is_ok()).count(), 1);
        let creations = join_all((0..CLIENTS).map(|_| rig.put_a(&[], absent()))).await;
        assert_eq!(creations.iter().filter(|created| created.is_ok()).count(), 1);
    });
}

#[test]
fn of_two_workers_with_the_same_version_one_writes() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        let (_, mut last) = rig.put_a(&[], absent()).await.unwrap();
        let mut elsewhere = 0;
        for round in 0..ROUNDS {
            let (here, there) = (format!("here-{round}"), format!("there-{round}"));
            let here_first = [("salt", here.as_str())];
            let race =
                join(rig.put_a(&here_first, at(last.version)), put_elsewhere(&store, there.clone(), last.version));
            let (salt, version) = match race.await {
                (Ok((_, info)), Err(CompareError::Rejected(HerderError::PreconditionFailed(_)))) => {
                    (here, info.version)
                }
                (Err(HerderError::PreconditionFailed(_)), Ok(offsets)) => {
                    elsewhere += 1;
                    (there, offsets[0])
                }
                race => panic!("{race:?}"),
            };
            store.log().read_to_end(PATIENCE).await.unwrap();
            let entry = store.snapshot().connector("a").cloned().expect("it is there");
            assert_eq!((entry.offset, &entry.config["salt"]), (version, &Some(salt)));
            last.version = version;
        }
        println!("{elsewhere} of {ROUNDS} races were won by the other worker");
    });
}

#[test]
fn changes_of_single_settings_lose_nothing() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        rig.put_a(&[], absent()).await.unwrap();
        let names: Vec<String> = (0..CLIENTS).map(|client| format!("setting-{client}")).collect();
        let changes: Vec<_> = names.iter().map(|name| [(name.as_str(), Some("1"))]).collect();
        let patches = join_all(changes.iter().map(|changes| rig.patch_a(changes, Precondition::default())));
        let elsewhere = async {
            let check = |state: &ClusterState| {
                let mut config = state.connector("a").expect("it is there").config.clone();
                config.insert("elsewhere".into(), Some("1".into()));
                Ok::<_, HerderError>(plan::put_connector(state, "a", config, None))
            };
            store.put(check).await
        };
        let (patched, written) = join(patches, elsewhere).await;
        written.unwrap();
        for (name, info) in names.iter().zip(patched) {
            let info = info.unwrap();
            assert_eq!(info.config.get(name).map(String::as_str), Some("1"), "its answer shows what it wrote");
        }
        store.log().read_to_end(PATIENCE).await.unwrap();
        let state = store.snapshot();
        let config = &state.connector("a").expect("it is there").config;
        assert!(
            names.iter().map(String::as_str).chain(["elsewhere"]).all(|name| config.contains_key(name)),
            "{config:?}"
        );
    });
}

#[test]
fn a_patch_changes_what_is_there_and_is_checked_as_a_whole() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        let any = Precondition::default;
        assert!(matches!(rig.patch_a(&[], any()).await, Err(HerderError::NotFound(_))));
        assert_eq!(rig.version_of_a(&store).await, None);
        rig.put_a(&[("one", "1")], absent()).await.unwrap();
        let patched = rig.patch_a(&[("one", None), ("two", Some("2")), ("none", None)], any()).await.unwrap();
        let expected = with_values(&settings(&[("two", "2")]));
        assert_eq!((&patched.config, &rig.info_of_a().await.unwrap().config), (&expected, &expected));
        for wrong in [("topic", None), ("tasks.max", Some("0")), ("connector.class", Some("None")), ("name", None)] {
            let refused = rig.patch_a(&[wrong], any()).await;
            assert!(matches!(refused, Err(HerderError::BadRequest(_))), "{wrong:?}: {refused:?}");
        }
        assert_eq!(rig.version_of_a(&store).await, Some(patched.version));
    });
}

/// Between the check and the write, and back.
#[test]
fn a_patch_of_what_changed_meanwhile_is_checked_again() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        rig.put_a(&[], absent()).await.unwrap();
        let good = Some((settings(&[("tasks.max", "1")]), Ok(())));
        let refused = rig.go_on(&[("tasks.max", "0")], good, 1).await;
        assert!(matches!(refused, Err(HerderError::BadRequest(_))), "good was another one: {refused:?}");
        let bad = || Some((settings(&[("tasks.max", "0")]), Err(HerderError::BadRequest("tasks.max".into()))));
        let patched = rig.go_on(&[("tasks.max", "2")], bad(), 1).await.unwrap();
        assert_eq!(patched.config["tasks.max"], "2", "bad was another one");
        // This worker did not know of the connector.
        let patched = rig.go_on(&[("tasks.max", "3")], None, 0).await.unwrap();
        assert_eq!(rig.version_of_a(&store).await, Some(patched.version));
        let refused = rig.go_on(&[("tasks.max", "0")], bad(), 1).await;
        assert_eq!(refused, Err(HerderError::BadRequest("tasks.max".into())), "it is still that one");
        let too_often = rig.go_on(&[("tasks.max", "4")], bad(), MERGES_MAX).await;
        assert!(matches!(too_often, Err(HerderError::Conflict(_))), "{too_often:?}");
        assert_eq!(rig.version_of_a(&store).await, Some(patched.version));
    });
}

#[test]
fn a_patch_that_nobody_waits_for_is_not_checked_again() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let store = rig.other_worker().await;
        let (_, before) = rig.put_a(&[], absent()).await.unwrap();
        let (reply, patched) = oneshot::channel();
        drop(patched);
        let changes = RawConfig::from([("late".to_owned(), Some("1".to_owned()))]);
        let precondition = Precondition::default();
        let patch = Patch { name: "a".into(), changes, precondition, reply, checked: None, merges: 0 };
        within(&rig.herder().await, |herder, context| herder.patch(patch, context)).await.unwrap();
        let after = rig.patch_a(&[], at(before.version)).await.unwrap();
        assert_eq!(rig.version_of_a(&store).await, Some(after.version));
        assert!(!after.config.contains_key("late"));
    });
}
