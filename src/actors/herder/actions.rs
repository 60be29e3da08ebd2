//! Carries out what the control plane says.

use actix::prelude::*;
use futures_util::FutureExt;

use super::*;
use crate::actors::probe;
use crate::actors::status::{Purpose, WriteStatus};
use crate::cluster::{
    Action, AppendFailure, ExitReason, Incarnation, MemberState, Nonce, ProbeAnswer, RegisterFields, Token, WorkerId,
};
use crate::storage::config_records::{ConfigRecord, MemberRecord};
use crate::storage::plan;
use crate::storage::status_records::UnitState;
use crate::storage::topic_log::{CompareError, LogError};

/// Why a member is evicted, in the header of its tombstone.
const GONE: &str = "neither this worker nor others reach it, or it has had no lease for seconds";

/// Between two attempts to take the transactional id. Each costs a worker that writes at that time its turn.
const TAKE_ID_INTERVAL: Duration = Duration::from_secs(30);

impl Herder {
    pub(super) fn carry_out(&mut self, action: Action, context: &mut Context<Self>) {
        match action {
            Action::AskEnds { ask } => self.ask_ends(ask, context),
            Action::AskJavaGroup => self.ask_java_group(context),
            Action::Probe { worker, incarnation, nonce, via } => {
                self.probe((worker, incarnation, nonce), via.as_ref(), context);
            }
            Action::AppendJoined { token, nonce } => {
                let record = self.member_record(MemberState::Joined, nonce, None, false);
                self.append(token, plan::member_joined(&self.parts.identity.worker_id, record), context);
            }
            Action::AppendDraining { token, incarnation, nonce } => {
                let record = self.member_record(MemberState::Draining, nonce, Some(incarnation), true);
                self.append_own(token, record, context);
            }
            Action::AppendSettled { token, incarnation, nonce } => {
                let record = self.member_record(MemberState::Joined, nonce, Some(incarnation), true);
                self.append_own(token, record, context);
            }
            Action::AppendNothing { token, partition: None } => {
                // The tombstone of a member that never was: no reader does anything for it. Not one of a turn, which somebody may wait for.
                let nobody = format!("{} looks whether the log takes this", self.parts.identity.worker_id);
                self.append(token, plan::member_gone(&nobody), context);
            }
            Action::AppendNothing { token, partition: Some(partition) } => {
                let Some(status) = self.logs.as_ref().map(|logs| logs.status.clone()) else { return };
                let append = async move { status.put_nothing(partition, BROKER_TIMEOUT).await };
                context.spawn(append.into_actor(self).map(move |result, herder, context| {
                    herder.step(appended(token, result), context);
                }));
            }
            Action::AppendGone { token } => {
                self.append(token, plan::member_gone(&self.parts.identity.worker_id), context);
            }
            Action::CompareAndTombstone { token, worker, incarnation } => {
                self.compare_and_tombstone(token, worker, incarnation, context);
            }
            Action::Joined { incarnation } => self.joined(incarnation, context),
            Action::WriteClaim { token, unit, fields, .. } => self.write_register(token, &unit, fields),
            Action::WriteRelease { token, unit, fields, .. } => self.write_register(token, &unit, fields),
            Action::WriteTombstone { token, unit, .. } => {
                let unit = units::parse(&unit);
                self.forget_topics_of_deleted(unit.connector(), context);
                self.write_status(unit, None, Purpose::Register(token));
            }
            Action::ForeignRegisters { unit, at, units } => tracing::warn!(
                units,
                unit = &*unit,
                offset = at,
                "statuses name offsets of the config topic that it does not have: it was made anew, or they were copied from another cluster; they are passed over"
            ),
            Action::StartUnit { unit, claim } => self.start_unit(&unit, claim),
            Action::StopUnit { unit, claim, hard } => self.stop_unit(units::parse(&unit), claim, hard, context),
            Action::SuspendUnit { unit, claim } => self.suspend_unit(&units::parse(&unit), claim, true),
            Action::ResumeUnit { unit, claim } => self.suspend_unit(&units::parse(&unit), claim, false),
            Action::Left => self.stop_process(Stop::Asked, context),
            Action::Exit { reason } => self.exit(&reason, context),
        }
    }

    fn exit(&mut self, reason: &ExitReason, context: &mut Context<Self>) {
        let mut text = reason.to_string();
        if let ExitReason::Deadline(_) = reason {
            let servers = &self.deps.config.bootstrap_servers;
            let cut_off = if self.cut_off() { format!(". Kafka at {servers} does not answer") } else { String::new() };
            text = format!("{text}{cut_off}. {LEFT_BEHIND}");
        }
        self.stop_process(Stop::Failed(text), context);
    }

    fn member_record(
        &self,
        state: MemberState,
        nonce: Nonce,
        incarnation: Option<Incarnation>,
        settled: bool,
    ) -> MemberRecord {
        MemberRecord {
            state,
            nonce,
            incarnation,
            group_id: self.deps.config.group_id.clone(),
            rest_url: self.parts.identity.rest_url.clone(),
            gossip_address: self
                .parts
                .identity
                .gossip
                .as_ref()
                .map(|place| place.advertised.clone())
                .unwrap_or_default(),
            settled,
            node_version: env!("CARGO_PKG_VERSION").into(),
            fence_ms: Some(self.deps.config.worker_fence_timeout.as_millis() as u64),
        }
    }

    fn joined(&mut self, incarnation: Incarnation, context: &mut Context<Self>) {
        tracing::info!(%incarnation, "joined");
        // Requests of an earlier time were for whoever ran then.
        self.restarts_seen = self.restarts_seen.max(incarnation.0);
        if !std::mem::replace(&mut self.id_asked_for, true) {
            self.take_id(context);
        }
    }

    /// Takes the transactional id before anybody needs it, so that a missing ACL is known from here and not from the first request. Nothing waits
    /// for it. Tried again until it succeeds: who was told by `GET /health` sees there when the ACL has come.
    fn take_id(&self, context: &mut Context<Self>) {
        let Some(config) = self.logs.as_ref().map(|logs| logs.config.clone()) else { return };
        let take = async move {
            while let Err(error) = config.take_id().await {
                tracing::debug!(%error, "the transactional id could not be taken; trying again");
                tokio::time::sleep(TAKE_ID_INTERVAL).await;
            }
        };
        context.spawn(take.into_actor(self));
    }

    fn ask_ends(&mut self, ask: Token, context: &mut Context<Self>) {
        let Some(logs) = self.logs.clone() else { return };
        // An end that was asked for longer ago than the fence time renews nothing.
        let limit = self.deps.config.worker_fence_timeout;
        let request = async move { tokio::try_join!(logs.config.log().ends(limit), logs.status.log().ends(limit)) };
        context.spawn(request.into_actor(self).map(move |ends, herder, context| match ends {
            Ok((config, status)) => {
                if std::mem::take(&mut herder.ends_unknown) {
                    tracing::info!("the ends of the internal topics are known again");
                }
                // The config topic has one partition.
                let config = config.offsets.first().copied().unwrap_or_default();
                herder.step(Event::Ends { ask, config, status: status.offsets }, context);
            }
            Err(error) => {
                // They are asked for several times a second, and an outage may last for hours.
                if std::mem::replace(&mut herder.ends_unknown, true) {
                    tracing::debug!(%error, "the ends of the internal topics could not be asked for");
                } else {
                    tracing::warn!(%error, "the ends of the internal topics could not be asked for; asked again until they can");
                }
                herder.step(Event::EndsFailed { ask }, context);
                herder.shut_down(context);
            }
        }));
    }

    fn ask_java_group(&mut self, context: &mut Context<Self>) {
        let (admin, group) = (self.deps.internal.admin(), self.deps.config.group_id.clone());
        let request = async move { admin.describe_group(&group).await };
        context.spawn(request.into_actor(self).map(|group, herder, context| match group {
            Ok(group) => {
                let live = group.is_some_and(|group| group.protocol_type == "connect" && group.members > 0);
                herder.step(Event::JavaGroup { live }, context);
            }
            Err(error) => tracing::warn!(%error, "the group of Java workers could not be described; asked again"),
        }));
    }

    fn probe(
        &mut self,
        (worker, incarnation, nonce): (WorkerId, Incarnation, Nonce),
        via: Option<&WorkerId>,
        context: &mut Context<Self>,
    ) {
        let url_of = |id: &WorkerId| self.state.member(&id.0).map(|member| member.record.rest_url.clone());
        // Who has left meanwhile is asked nowhere.
        let url = url_of(via.unwrap_or(&worker)).unwrap_or_default();
        let asked = match via {
            Some(_) => {
                let worker = worker.clone();
                async move { reached(probe::reaches(&url, &worker, nonce).await) }.boxed_local()
            }
            None => self.peers.probe(url, nonce).map(|alive| reached(alive.then_some(true))).boxed_local(),
        };
        let via = via.map_or_else(|| "this worker".to_owned(), ToString::to_string);
        context.spawn(asked.into_actor(self).map(move |answer, herder, context| {
            if answer != ProbeAnswer::Alive {
                tracing::info!(%worker, asked = via, ?answer, "a worker of this group does not answer");
            }
            herder.step(Event::ProbeAnswered { worker, incarnation, answer }, context);
        }));
    }

    fn append_own(&mut self, token: Token, record: MemberRecord, context: &mut Context<Self>) {
        let id = self.parts.identity.worker_id.clone();
        self.append(token, ConfigRecord::Member(id, Some(record)), context);
    }

    fn append(&mut self, token: Token, record: ConfigRecord, context: &mut Context<Self>) {
        let Some(logs) = self.logs.clone() else { return };
        let append = async move { logs.config.append(&record, BROKER_TIMEOUT).await };
        context.spawn(append.into_actor(self).map(move |result, herder, context| {
            herder.step(appended(token, result.map(drop)), context);
        }));
    }

    fn compare_and_tombstone(
        &mut self,
        token: Token,
        worker: WorkerId,
        incarnation: Incarnation,
        context: &mut Context<Self>,
    ) {
        let Some(logs) = self.logs.clone() else { return };
        let (own, life) = (self.parts.identity.worker_id.clone(), self.plane.incarnation());
        let write = async move {
            let result = logs.config.evict((&own, life), (&worker.0, incarnation), GONE).await;
            (worker, result)
        };
        context.spawn(write.into_actor(self).map(move |(worker, result), herder, context| {
            let event = match result {
                Ok(()) => {
                    tracing::warn!(%worker, %incarnation, "evicted: {GONE}");
                    Event::Appended { token }
                }
                Err(error) => {
                    let failure = match error {
                        CompareError::Rejected(_) => AppendFailure::Refused,
                        _ => AppendFailure::Unacknowledged,
                    };
                    Event::AppendFailed { token, failure, error: error.to_string() }
                }
            };
            herder.step(event, context);
        }));
    }

    fn write_register(&mut self, token: Token, unit: &str, fields: RegisterFields) {
        let unit = units::parse(unit);
        let record = self.status_record(UnitState::Unassigned, None, &unit, fields);
        self.write_status(unit, Some(record), Purpose::Register(token));
    }

    pub(super) fn write_status(&mut self, unit: UnitId, record: Option<StatusRecord>, purpose: Purpose) {
        let Some(logs) = &self.logs else { return };
        if let Purpose::Register(token) = purpose {
            self.registers_under_way.insert(token);
        }
        logs.writer.do_send(WriteStatus { unit, record, purpose });
    }
}

/// What somebody says who was asked; `None`: nobody answered.
fn reached(answer: Option<bool>) -> ProbeAnswer {
    match answer {
        Some(true) => ProbeAnswer::Alive,
        Some(false) => ProbeAnswer::NotReached,
        None => ProbeAnswer::Silence,
    }
}

/// What an error says about a record.
pub(super) fn append_failure(error: &LogError) -> AppendFailure {
    if error.is_retriable() { AppendFailure::Unacknowledged } else { AppendFailure::Fatal }
}

fn appended(token: Token, result: Result<(), LogError>) -> Event {
    match result {
        Ok(()) => Event::Appended { token },
        Err(error) => {
            tracing::warn!(%error, "a record of the control plane was not written");
            Event::AppendFailed { token, failure: append_failure(&error), error: error.to_string() }
        }
    }
}
