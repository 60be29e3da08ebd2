//! The other worker that this one watches, and what it tells others of it.

use futures_util::future::join_all;

use super::cluster::{NONCE, OTHER};
use super::*;
use crate::actors::handle::{HerderResult, Reaches};
use crate::actors::herder::watch::ASKED_PROBES_MAX;
use crate::actors::probe::test_worker::{STEADY, TestWorker, identity};

impl Rig {
    async fn reaches(&self, worker: &str, nonce: u64) -> HerderResult<bool> {
        let worker_id = worker.to_owned();
        let answer = self.handle.ask(|reply| HerderRequest::Reaches { worker_id, nonce, reply }).await;
        answer.map(|Reaches { reaches }| reaches)
    }

    async fn has_another(&self) -> bool {
        within(&self.herder().await, |herder, _| herder.state.member(OTHER).is_some()).await == Some(true)
    }
}

#[test]
fn another_worker_is_watched_over_one_connection_until_it_ends() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let other = TestWorker::start(identity(NONCE.0, ""), STEADY).await;
        rig.joined_by_another_at(&other.url).await;
        eventually("it is probed again", async || other.answered() >= 2).await;
        assert_eq!(other.accepted(), 1);
        drop(other);
        eventually("it is evicted", async || !rig.has_another().await).await;
    });
}

#[test]
fn others_are_told_who_is_reached_and_have_nobody_else_asked() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let other = TestWorker::start(identity(NONCE.0, ""), STEADY).await;
        rig.joined_by_another_at(&other.url).await;
        eventually("it is read", async || rig.has_another().await).await;
        assert_eq!(rig.reaches(OTHER, NONCE.0).await, Ok(true));
        for (worker, nonce) in [(OTHER, NONCE.0 + 1), ("y:1", NONCE.0), (&*other.url, NONCE.0)] {
            let refused = rig.reaches(worker, nonce).await;
            assert!(matches!(refused, Err(HerderError::NotFound(_))), "{worker}: {refused:?}");
        }
    });
}

#[test]
fn probes_for_others_are_bounded() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let listener = rig.joined_by_another().await;
        eventually("it is read", async || rig.has_another().await).await;
        let rig = &*rig;
        let answers = join_all((0..=ASKED_PROBES_MAX).map(|_| rig.reaches(OTHER, NONCE.0))).await;
        let refused = |answer: &&HerderResult<bool>| matches!(answer, Err(HerderError::Unavailable(_)));
        assert_eq!(answers.iter().filter(refused).count(), 1, "{answers:?}");
        assert_eq!(answers.iter().filter(|answer| **answer == Ok(false)).count(), ASKED_PROBES_MAX);
        drop(listener);
    });
}

#[test]
fn a_process_knows_itself_before_it_has_joined() {
    in_a_worker(async |rig| {
        let first = rig.handle.ask(HerderRequest::Identity).await.unwrap();
        assert_eq!((&*first.worker_id, &*first.process), ("w:1", "p"));
        rig.joined().await;
        let joined = rig.handle.ask(HerderRequest::Identity).await.unwrap();
        assert_eq!((&*joined.worker_id, &*joined.process), ("w:1", "p"));
        assert!(joined.nonce.parse::<u64>().is_ok(), "{joined:?}");
    });
}
