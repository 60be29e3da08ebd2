//! The cluster as an operator sees it, and evictions that an operator asks for.

use actix::prelude::*;

use super::requests::{accept, log_error, not_written};
use super::units::answer;
use super::*;
use crate::actors::handle::{
    ClusterView, Evicted, HerderResult, HolderView, MemberView, RestartView, UNITS_MAX, UnitView, UnitsPage, WorkerView,
};
use crate::cluster::{Incarnation, MemberState, Page, UnitReport, WorkerId};
use crate::storage::cluster_state::MemberEntry;
use crate::storage::config_store::NotEvicted;
use crate::storage::status_records::UnitState;
use crate::storage::topic_log::CompareError;

/// Why a member was evicted, in the header of its tombstone.
const ASKED_FOR: &str = "asked for by an operator";

impl Herder {
    pub(super) fn cluster_view(&self, page: Option<&UnitsPage>) -> HerderResult<ClusterView> {
        self.logs()?;
        let asked = page.map(|page| Page { after: page.after.as_deref(), limit: UNITS_MAX });
        let report = self.plane.report(asked, lease::now());
        let member = |(id, entry): (&str, &Arc<MemberEntry>)| MemberView {
            worker_id: id.to_owned(),
            incarnation: entry.incarnation().0,
            state: match entry.record.state {
                MemberState::Joined => "joined",
                MemberState::Draining => "draining",
            },
            settled: entry.record.settled,
            load: report.loads.get(&entry.incarnation()).copied().unwrap_or_default(),
            version: entry.record.node_version.clone(),
            heard: self.is_heard(entry.incarnation()),
            rest_url: entry.record.rest_url.clone(),
        };
        Ok(ClusterView {
            worker: WorkerView {
                worker_id: self.parts.identity.worker_id.clone(),
                incarnation: report.own.map(|life| life.0),
                lease_age_ms: report.lease_age_ms,
                config_position: report.position,
            },
            members: self.state.members().map(member).collect(),
            next: report.units.last().filter(|_| report.more).map(|unit| (*unit.name).to_owned()),
            units: page.map(|_| report.units.iter().map(|unit| self.unit_view(unit, report.own)).collect()),
        })
    }

    fn unit_view(&self, unit: &UnitReport, own: Option<Incarnation>) -> UnitView {
        let shown = self.statuses.unit(&units::parse(&unit.name)).map(|status| &status.shown);
        let state = shown.map(|shown| shown.state);
        let text = |id: &WorkerId| (*id.0).to_owned();
        let waiting = match (&unit.waiting, &unit.holder) {
            (Some(waiting), _) => Some(waiting.to_string()),
            // A claim is a record without a state; whoever runs the unit writes one behind it.
            (None, Some((life, Some(worker)))) if Some(*life) != own && state == Some(UnitState::Unassigned) => unit
                .owner
                .is_some()
                .then(|| format!("claimed by {worker}, which does not run it yet: that worker knows why")),
            (None, _) => None,
        };
        UnitView {
            name: (*unit.name).to_owned(),
            owner: unit.owner.as_ref().map(text),
            holder: unit
                .holder
                .as_ref()
                .map(|(life, id)| HolderView { worker_id: id.as_ref().map(text), incarnation: life.0 }),
            state: state.map(UnitState::word),
            waiting,
            restart: shown.and_then(|shown| shown.restart.as_ref()).map(RestartView::from),
        }
    }

    /// Writes the tombstone of another worker, in whatever life it is. Nobody is asked whether it lives: who does joins again.
    pub(super) fn evict(&mut self, worker: String, reply: Reply<Evicted>, context: &mut Context<Self>) {
        let own = self.parts.identity.worker_id.clone();
        let allowed = if worker == own {
            let message = format!("{own} does not evict itself: ask another worker, or end it with SIGTERM");
            Err(HerderError::Conflict(message))
        } else {
            let life = self.plane.incarnation().ok_or_else(not_a_member);
            life.and_then(|life| Ok((life, self.logs()?.clone())))
        };
        let Some(((life, logs), reply)) = accept(allowed, reply) else { return };
        let write = async move {
            let victim = find_member(&logs.config, &worker).await?;
            let written = logs.config.evict((&own, life), (&worker, victim), ASKED_FOR).await;
            written.map_err(|error| not_evicted(error, &worker))?;
            Ok(Evicted { worker_id: worker, incarnation: victim.0 })
        };
        self.spawn_checked(write, context, move |result, _, _| answer(reply, result));
    }
}

/// The present life of a member. Only a reader that has read everything can say that there is none.
async fn find_member(store: &ConfigStore, worker: &str) -> HerderResult<Incarnation> {
    let find = || store.snapshot().member(worker).map(|member| member.incarnation());
    if let Some(life) = find() {
        return Ok(life);
    }
    store.log().read_to_end(BROKER_TIMEOUT).await.map_err(|error| log_error(&error))?;
    find().ok_or_else(|| {
        HerderError::NotFound(format!("there is no member {worker:?}; GET /cluster lists the members with their ids"))
    })
}

fn not_a_member() -> HerderError {
    HerderError::Unavailable(
        "this worker is no member itself at the moment: ask another one, or try again later".into(),
    )
}

pub(super) fn not_evicted(error: CompareError<NotEvicted>, worker: &str) -> HerderError {
    match error {
        CompareError::Rejected(NotEvicted::VictimGone) => HerderError::Conflict(format!(
            "{worker} has left, was evicted by another worker, or has joined again meanwhile"
        )),
        CompareError::Rejected(NotEvicted::EvictorGone) => not_a_member(),
        error => not_written(error),
    }
}
