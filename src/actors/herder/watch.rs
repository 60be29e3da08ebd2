//! What this worker hears of others beside its own probes, and what it tells others of them.

use actix::prelude::*;

use super::requests::accept;
use super::units::answer;
use super::*;
use crate::actors::handle::Reaches;
use crate::actors::probe;
use crate::cluster::Nonce;

/// Probes at a time that others have asked for. More are refused: who asks does without this answer.
pub(super) const ASKED_PROBES_MAX: usize = 64;

/// The connection to the worker that joined with this nonce has ended.
#[derive(Debug, Clone, Copy, Message)]
#[rtype(result = "()")]
pub(super) struct Suspected(pub(super) Nonce);

impl Handler<Suspected> for Herder {
    type Result = ();
    fn handle(&mut self, Suspected(nonce): Suspected, context: &mut Context<Self>) {
        // It may be gone from the members by now: who leaves ends its connections as well.
        let found = self.state.members().find(|(_, member)| member.record.nonce == nonce);
        let Some((worker, incarnation)) = found.map(|(worker, member)| (worker, member.incarnation())) else { return };
        tracing::debug!(worker, %incarnation, "the connection to a worker has ended");
        self.step(Event::Suspected { incarnation }, context);
    }
}

impl Herder {
    /// Probes another worker for one that could not reach it. Only where this worker has read that it is a member, in the very life that is asked
    /// for, and at the address that its record names: nobody can have any other address asked. Nobody else is asked in turn.
    pub(super) fn reaches(&self, worker: &str, nonce: u64, reply: Reply<Reaches>, context: &mut Context<Self>) {
        let nonce = Nonce(nonce);
        let allowed = self.logs().and_then(|_| {
            let member = self.state.member(worker).filter(|member| member.record.nonce == nonce);
            let member = member.ok_or_else(|| {
                HerderError::NotFound(format!("this worker has not read that {worker:?} has joined with this nonce"))
            })?;
            let permit = self.asked_probes.clone().try_acquire_owned();
            let permit = permit.map_err(|_| {
                HerderError::Unavailable(format!(
                    "this worker probes {ASKED_PROBES_MAX} others already; try again later"
                ))
            })?;
            Ok((member.record.rest_url.clone(), permit))
        });
        let Some(((url, permit), reply)) = accept(allowed, reply) else { return };
        let ask = async move {
            let reaches = probe::lives(&url, nonce).await;
            drop(permit);
            answer(reply, Ok(Reaches { reaches }));
        };
        context.spawn(ask.into_actor(self));
    }
}
