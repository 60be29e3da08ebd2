//! Writes at a worker that has not read yet what another one has written. A client that goes from one worker to the next must not be told that
//! there is nothing.

use super::*;
use crate::actors::handle::{HerderResult, RestartRequest};
use crate::storage::status_store::StatusState;

impl Rig {
    /// Makes the herder see the topics as they were, until it reads on.
    async fn sees(&self, (state, statuses): &(ClusterState, StatusState)) {
        let (state, statuses) = (state.clone(), statuses.clone());
        within(&self.herder().await, move |herder, _| (herder.state, herder.statuses) = (state, statuses)).await;
    }

    async fn view_now(&self) -> (ClusterState, StatusState) {
        within(&self.herder().await, |herder, _| (herder.state.clone(), herder.statuses.clone())).await.unwrap()
    }

    async fn steer(&self, name: &str, target: TargetState) -> HerderResult<()> {
        self.handle.ask(|reply| HerderRequest::SetTargetState(name.into(), target, reply)).await
    }

    async fn try_create(&self, name: &str) -> HerderResult<()> {
        let config = [("name", name), ("connector.class", "FileStreamSource"), ("topic", "t"), ("file", "/nothing")];
        let config = config.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
        let name = name.to_owned();
        let made = self.handle.ask(|reply| HerderRequest::Create { name, config, initial_state: None, reply });
        made.await.map(drop)
    }
}

#[test]
fn a_connector_that_was_just_created_elsewhere_is_there_for_writes() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let before = rig.view_now().await;
        rig.create("a").await;
        rig.running("status-connector-a").await;
        rig.running(TASK).await;
        for target in [TargetState::Paused, TargetState::Started, TargetState::Stopped, TargetState::Started] {
            rig.sees(&before).await;
            assert_eq!(rig.steer("a", target).await, Ok(()), "{target:?}");
        }
        rig.running(TASK).await;
        rig.sees(&before).await;
        assert_eq!(rig.handle.ask(|reply| HerderRequest::RestartConnector("a".into(), reply)).await, Ok(()));
        rig.sees(&before).await;
        assert_eq!(rig.handle.ask(|reply| HerderRequest::RestartTask("a".into(), 0, reply)).await, Ok(()));
        rig.sees(&before).await;
        let request = RestartRequest { include_tasks: true, only_failed: false };
        let planned = rig.handle.ask(|reply| HerderRequest::Restart("a".into(), request, reply)).await.unwrap();
        assert_eq!((&*planned.connector.state, planned.tasks.len()), ("RESTARTING", 1));
        rig.sees(&before).await;
        let delete = |reply| HerderRequest::Delete("a".into(), Default::default(), reply);
        assert_eq!(rig.handle.ask(delete).await, Ok(()));
    });
}

#[test]
fn a_name_that_was_just_freed_elsewhere_is_free() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let before = rig.view_now().await;
        rig.handle.ask(|reply| HerderRequest::Delete("a".into(), Default::default(), reply)).await.unwrap();
        rig.sees(&before).await;
        assert_eq!(rig.try_create("a").await, Ok(()));
    });
}

#[test]
fn what_is_not_there_for_anybody_is_refused() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        rig.running(TASK).await;
        let absent = |result: HerderResult<()>| matches!(result, Err(HerderError::NotFound(_)));
        for target in [TargetState::Paused, TargetState::Started, TargetState::Stopped] {
            assert!(absent(rig.steer("b", target).await), "{target:?}");
        }
        assert!(absent(rig.handle.ask(|reply| HerderRequest::RestartConnector("b".into(), reply)).await));
        assert!(absent(rig.handle.ask(|reply| HerderRequest::RestartTask("a".into(), 1, reply)).await));
        let request = RestartRequest { include_tasks: true, only_failed: false };
        let restart = rig.handle.ask(|reply| HerderRequest::Restart("b".into(), request, reply)).await;
        assert!(absent(restart.map(drop)));
        assert!(matches!(rig.try_create("a").await, Err(HerderError::Conflict(_))));
    });
}

/// Who has not read everything does not know whether there is such a connector.
#[test]
fn without_brokers_nobody_is_told_that_there_is_nothing() {
    in_a_worker(async |rig| {
        rig.joined().await;
        let faults = memory::faults(&rig.cluster);
        faults.set_down(true);
        let refused = rig.steer("a", TargetState::Paused).await;
        faults.set_down(false);
        assert!(matches!(refused, Err(HerderError::Unavailable(_))), "{refused:?}");
    });
}
