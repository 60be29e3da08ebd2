//! What an operator sees of the cluster and of units that wait, and evictions.

use std::net::TcpListener;

use super::*;
use crate::actors::handle::{ClusterView, Evicted, HerderResult, UnitsPage};
use crate::backend::{Isolation, ReadBatch, StartOffset};
use crate::cluster::{MemberState, Nonce};
use crate::storage::config_records::MemberRecord;
use crate::storage::config_store::NotEvicted;
use crate::storage::plan;
use crate::storage::topic_log::{CompareError, LogError};

pub(super) const OTHER: &str = "x:1";
pub(super) const NONCE: Nonce = Nonce(99);

impl Rig {
    async fn view(&self, page: Option<UnitsPage>) -> HerderResult<ClusterView> {
        self.handle.ask(|reply| HerderRequest::Cluster(page, reply)).await
    }

    async fn evict(&self, worker: &str) -> HerderResult<Evicted> {
        self.handle.ask(|reply| HerderRequest::Evict(worker.into(), reply)).await
    }

    /// Writes the record of another worker, which takes connections and says nothing: it is not evicted as long as the listener is kept and
    /// a probe has not given up, which takes seconds.
    pub(super) async fn joined_by_another(&self) -> TcpListener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        self.joined_by_another_at(&format!("http://{}/", listener.local_addr().unwrap())).await;
        listener
    }

    /// Writes the record of another worker.
    pub(super) async fn joined_by_another_at(&self, url: &str) {
        let record = MemberRecord {
            state: MemberState::Joined,
            nonce: NONCE,
            incarnation: None,
            group_id: "workers".into(),
            rest_url: url.into(),
            gossip_address: String::new(),
            settled: false,
            fence_ms: None,
            node_version: "9.9".into(),
        };
        self.append(plan::member_joined(OTHER, record)).await;
    }

    /// The reason in the header of the last record of a member.
    async fn reason(&self, worker: &str) -> Option<String> {
        let backend = backend::open(&format!("memory:{}", self.cluster), &ClientSettings::new()).unwrap();
        let mut reader = backend.reader(&ClientSettings::new(), Isolation::ReadCommitted).unwrap();
        let partition = connect_api::TopicPartition::new("configs", 0);
        let end = reader.end_offsets(std::slice::from_ref(&partition), PATIENCE).await.unwrap()[0];
        reader.assign(&[(partition.clone(), StartOffset::Beginning)]).unwrap();
        let (mut batch, mut reason) = (ReadBatch::default(), None);
        while reader.position(&partition).is_none_or(|position| position < end) {
            reader.read(&mut batch, 1000, PATIENCE).await.unwrap();
            for record in batch.records.drain(..) {
                if record.key.as_deref() == Some(format!("worker-{worker}").as_bytes()) {
                    let header = record.headers.iter().find(|(name, _)| &**name == "reason");
                    reason = header.and_then(|(_, text)| Some(String::from_utf8_lossy(text.as_ref()?).into_owned()));
                }
            }
        }
        reason
    }
}

#[test]
fn a_worker_alone_shows_what_it_runs() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running("status-connector-a").await;
        rig.running(TASK).await;
        let view = rig.view(Some(UnitsPage::default())).await.unwrap();
        let life = view.worker.incarnation.expect("it is a member");
        assert_eq!(view.worker.worker_id, "w:1");
        assert!(view.worker.lease_age_ms.is_some_and(|age| age < 1000), "{:?}", view.worker);
        assert!(view.worker.config_position > life);
        let [member] = &view.members[..] else { panic!("{:?}", view.members) };
        assert_eq!((&*member.worker_id, member.incarnation, member.state, member.load), ("w:1", life, "joined", 2));
        assert_eq!((&*member.rest_url, &*member.version), ("http://w:1/", env!("CARGO_PKG_VERSION")));
        let units = view.units.expect("they were asked for");
        assert_eq!(units.iter().map(|unit| &*unit.name).collect::<Vec<_>>(), ["status-connector-a", TASK]);
        for unit in &units {
            let holder = unit.holder.as_ref().expect("it is held");
            assert_eq!((holder.worker_id.as_deref(), holder.incarnation), (Some("w:1"), life));
            assert_eq!((unit.owner.as_deref(), unit.state, &unit.waiting), (Some("w:1"), Some("RUNNING"), &None));
        }
        let behind = rig.view(Some(UnitsPage { after: Some("status-connector-a".into()) })).await.unwrap();
        assert_eq!((behind.units.as_deref(), behind.next), (Some(&units[1..]), None));
        let without = rig.view(None).await.unwrap();
        assert_eq!((without.units, without.next, without.members), (None, None, view.members));
    });
}

#[test]
fn a_unit_that_waits_says_for_whom() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let listener = rig.joined_by_another().await;
        for name in ["a", "b", "c", "d"] {
            rig.create(name).await;
        }
        let waits = async || {
            let units = rig.view(Some(UnitsPage::default())).await.unwrap().units.unwrap_or_default();
            let of_other = units.iter().find(|unit| unit.owner.as_deref() == Some(OTHER));
            of_other.is_some_and(|unit| unit.waiting.as_deref() == Some("not claimed yet by x:1"))
        };
        eventually("a unit waits for the other worker", waits).await;
        drop(listener);
    });
}

#[test]
fn an_operator_removes_another_worker() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let listener = rig.joined_by_another().await;
        let life = async || {
            let members = rig.view(None).await.unwrap().members;
            members.iter().find(|member| member.worker_id == OTHER).map(|member| member.incarnation)
        };
        let before = life().await.expect("it has joined");
        assert_eq!(rig.evict(OTHER).await, Ok(Evicted { worker_id: OTHER.into(), incarnation: before }));
        assert_eq!(life().await, None);
        assert_eq!(rig.reason(OTHER).await.as_deref(), Some("asked for by an operator"));
        assert!(matches!(rig.evict(OTHER).await, Err(HerderError::NotFound(_))));
        assert!(matches!(rig.evict("w:1").await, Err(HerderError::Conflict(_))));
        assert!(rig.view(None).await.unwrap().worker.incarnation.is_some(), "it evicted itself");
        drop(listener);
    });
}

#[test]
fn an_eviction_that_came_too_late_says_so() {
    use crate::actors::herder::cluster::not_evicted;
    let rejected = |why| not_evicted(CompareError::Rejected(why), OTHER);
    assert!(matches!(rejected(NotEvicted::VictimGone), HerderError::Conflict(_)));
    assert!(matches!(rejected(NotEvicted::EvictorGone), HerderError::Unavailable(_)));
    let lost = LogError::Lost { topic: "configs".into(), reason: "on purpose".into() };
    assert!(matches!(not_evicted(CompareError::Unknown(lost), OTHER), HerderError::Internal(_)));
}
