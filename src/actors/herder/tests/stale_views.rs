//! Writes at a worker that has not read yet what another one has written. A client that goes from one worker to the next must not be told that
//! there is nothing.

use super::*;
use crate::actors::handle::{ConnectorInfo, HerderResult, RestartRequest};
use crate::storage::status_store::StatusState;

type View = (ClusterState, StatusState);

impl Rig {
    /// Has a request looked at by a herder that sees the topics as they were. It sees them as they are afterwards, as if it had read on.
    async fn ask_behind<T: Send + 'static>(
        &self,
        (state, statuses): &View,
        make: impl FnOnce(Reply<T>) -> HerderRequest,
    ) -> HerderResult<T> {
        let (reply, answer) = oneshot::channel();
        let (request, state, statuses) = (make(reply), state.clone(), statuses.clone());
        let look = move |herder: &mut Herder, context: &mut Context<Herder>| {
            let now = (std::mem::replace(&mut herder.state, state), std::mem::replace(&mut herder.statuses, statuses));
            herder.write(request, context);
            (herder.state, herder.statuses) = now;
        };
        within(&self.herder().await, look).await.expect("the herder is there");
        timeout(PATIENCE, answer).await.expect("it is answered in time").expect("it is answered")
    }

    async fn view_now(&self) -> View {
        within(&self.herder().await, |herder, _| (herder.state.clone(), herder.statuses.clone())).await.unwrap()
    }

    async fn steer(&self, name: &str, target: TargetState) -> HerderResult<()> {
        self.handle.ask(|reply| HerderRequest::SetTargetState(name.into(), target, reply)).await
    }
}

fn create(name: &str, reply: Reply<ConnectorInfo>) -> HerderRequest {
    let config = [("name", name), ("connector.class", "FileStreamSource"), ("topic", "t"), ("file", "/nothing")];
    let config = config.iter().map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned()))).collect();
    HerderRequest::Create { name: name.to_owned(), config, initial_state: None, reply }
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
            let steer = |reply| HerderRequest::SetTargetState("a".into(), target, reply);
            assert_eq!(rig.ask_behind(&before, steer).await, Ok(()), "{target:?}");
        }
        rig.until("it has a task again", |herder| herder.state.tasks("a").len() == 1).await;
        rig.running(TASK).await;
        let restart = |reply| HerderRequest::RestartConnector("a".into(), reply);
        assert_eq!(rig.ask_behind(&before, restart).await, Ok(()));
        assert_eq!(rig.ask_behind(&before, |reply| HerderRequest::RestartTask("a".into(), 0, reply)).await, Ok(()));
        let request = RestartRequest { include_tasks: true, only_failed: false };
        let planned = rig.ask_behind(&before, |reply| HerderRequest::Restart("a".into(), request, reply)).await;
        assert_eq!(planned.map(|planned| planned.connector.state), Ok("RESTARTING".to_owned()));
        let delete = |reply| HerderRequest::Delete("a".into(), Default::default(), reply);
        assert_eq!(rig.ask_behind(&before, delete).await, Ok(()));
    });
}

#[test]
fn a_name_that_was_just_freed_elsewhere_is_free() {
    in_a_worker(async |rig| {
        rig.joined().await;
        rig.create("a").await;
        let before = rig.view_now().await;
        rig.handle.ask(|reply| HerderRequest::Delete("a".into(), Default::default(), reply)).await.unwrap();
        assert!(rig.ask_behind(&before, |reply| create("a", reply)).await.is_ok());
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
        assert!(matches!(rig.handle.ask(|reply| create("a", reply)).await, Err(HerderError::Conflict(_))));
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
