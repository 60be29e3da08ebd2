//! A connector that is wanted has the tasks that it says, whatever its holder saw of what happened to them.

use super::*;
use crate::storage::config_store::ConfigStore;
use crate::storage::plan;

const CONNECTOR: &str = "status-connector-a";

/// How often a stop and a resume come at once.
const ROUNDS: usize = 10;

impl Rig {
    /// Another worker stops the connector and resumes it before anybody has read of either.
    async fn stopped_and_resumed(&self, store: &ConfigStore) {
        let records = |state: &ClusterState| {
            let mut records = plan::put_target_state(state, "a", TargetState::Stopped);
            records.extend(plan::put_target_state(state, "a", TargetState::Started));
            Ok::<_, HerderError>(records)
        };
        store.put(records).await.unwrap();
    }

    /// Waits until the task of a newer set than this one runs, and returns the offset of its set.
    async fn runs_again(&self, before: i64) -> i64 {
        let set = move |herder: &mut Herder| {
            let set = herder.state.task_set("a").filter(|set| set.configs.len() == 1)?;
            let status = herder.statuses.unit(&units::parse(TASK))?;
            let runs = status.shown.state == UnitState::Running;
            let of_this_set = status.shown.register.is_some_and(|fields| fields.set == set.commit_offset);
            (set.commit_offset > before && runs && of_this_set).then_some(set.commit_offset)
        };
        self.until("the tasks are there again and run", move |herder| set(herder).is_some()).await;
        within(&self.herder().await, move |herder, _| set(herder)).await.flatten().expect("it was waited for")
    }
}

#[test]
fn a_stop_and_a_resume_that_come_at_once_leave_the_tasks() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let store = rig.other_worker().await;
        let mut set = rig.runs_again(-1).await;
        for _ in 0..ROUNDS {
            rig.stopped_and_resumed(&store).await;
            set = rig.runs_again(set).await;
        }
    });
}

/// Both are no change to a connector that is suspended.
#[test]
fn a_stop_and_a_resume_without_a_lease_leave_the_tasks() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let store = rig.other_worker().await;
        let set = rig.runs_again(-1).await;
        rig.running(CONNECTOR).await;
        let claim = rig.run_of(CONNECTOR).await.claim;
        let suspend = |suspend| {
            move |herder: &mut Herder, _: &mut _| herder.suspend_unit(&units::parse(CONNECTOR), claim, suspend)
        };
        within(&rig.herder().await, suspend(true)).await;
        rig.stopped_and_resumed(&store).await;
        let seen = move |herder: &mut Herder| herder.state.task_set("a").is_some_and(|now| now.commit_offset > set);
        rig.until("both were read", move |herder| {
            seen(herder) && herder.state.target_state("a") == TargetState::Started
        })
        .await;
        within(&rig.herder().await, suspend(false)).await;
        rig.runs_again(set).await;
    });
}

#[test]
fn a_stop_before_a_crash_and_a_resume_after_it_leave_the_tasks() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let store = rig.other_worker().await;
        let set = rig.runs_again(-1).await;
        let stop =
            |state: &ClusterState| Ok::<_, HerderError>(plan::put_target_state(state, "a", TargetState::Stopped));
        store.put(stop).await.unwrap();
        rig.crash_herder().await;
        store.append(&ConfigRecord::TargetState("a".into(), Some(TargetState::Started)), PATIENCE).await.unwrap();
        rig.runs_again(set).await;
    });
}

#[test]
fn a_crash_behind_a_stop_and_a_resume_leaves_the_tasks() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let store = rig.other_worker().await;
        let set = rig.runs_again(-1).await;
        rig.stopped_and_resumed(&store).await;
        rig.crash_herder().await;
        rig.runs_again(set).await;
    });
}

/// The connector says its tasks while it is stopped, which is refused, and is asked again when it is not any more.
#[test]
fn stops_and_resumes_one_after_the_other_leave_the_tasks() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let store = rig.other_worker().await;
        let set = rig.runs_again(-1).await;
        for _ in 0..ROUNDS {
            for target in [TargetState::Stopped, TargetState::Started, TargetState::Stopped, TargetState::Paused] {
                let put = move |state: &ClusterState| Ok::<_, HerderError>(plan::put_target_state(state, "a", target));
                store.put(put).await.unwrap();
            }
        }
        rig.append(ConfigRecord::TargetState("a".into(), Some(TargetState::Started))).await;
        rig.runs_again(set).await;
    });
}
