//! The herder's side of gossip: what it says of itself several times a second, and what it makes of what it hears, which is an event for the control
//! plane.

use actix::prelude::*;

use super::*;
use crate::actors::cluster::{ClusterActor, Heard, Parts, Rekey, Say, Seeds};
use crate::cluster::{Incarnation, Peer};
use crate::gossip::{Facts, Keys, random_secret};
use crate::storage::config_records::{ConfigRecord, SessionKey};

/// How often this worker says what it does. Others are as far behind.
const SAY_INTERVAL: Duration = Duration::from_millis(200);

/// Between two attempts to write the session key.
const KEY_INTERVAL: Duration = Duration::from_secs(5);

/// As Java names it (`inter.worker.key.generation.algorithm`).
const KEY_ALGORITHM: &str = "HmacSHA256";

/// What gossip needs of a herder.
#[derive(Default)]
pub(super) struct Gossiping {
    actor: Option<Addr<ClusterActor>>,
    restarts: Restarts,
    /// What the key is made of.
    secret: String,
    seeds: Vec<String>,
    /// A hash of the plug-ins.
    plugins: u64,
    /// Who lived, as the control plane was told.
    heard: Arc<[Peer]>,
    /// The session key is being written.
    writes_key: bool,
}

impl Herder {
    /// Gossips from now on, if this worker is to.
    pub(super) fn keep_gossiping(&mut self, context: &mut Context<Self>) {
        if self.parts.identity.gossip.is_some() {
            self.gossiping.plugins = self.deps.registry.fingerprint();
            context.run_interval(SAY_INTERVAL, |herder, context| herder.gossip(context));
        }
    }

    fn gossip(&mut self, context: &mut Context<Self>) {
        let Some(secret) = self.gossip_secret() else { return self.write_session_key(context) };
        let seeds = self.seeds();
        let facts = self.facts();
        let Some(actor) = &self.gossiping.actor else {
            (self.gossiping.secret, self.gossiping.seeds) = (secret, seeds);
            return self.start_gossip(facts, context);
        };
        // It is far from full unless the actor hangs, and then others have to see this worker silent.
        _ = actor.try_send(Say(facts));
        if self.gossiping.seeds != seeds {
            actor.do_send(Seeds(seeds.clone()));
            self.gossiping.seeds = seeds;
        }
        if self.gossiping.secret != secret {
            actor.do_send(Rekey(Keys::from_secret(&secret, &self.cluster_name())));
            self.gossiping.secret = secret;
        }
    }

    fn start_gossip(&mut self, facts: Facts, context: &mut Context<Self>) {
        let Some(place) = self.parts.identity.gossip.clone() else { return };
        let parts = Parts {
            worker_id: self.parts.identity.worker_id.clone(),
            cluster: self.cluster_name(),
            place,
            keys: Keys::from_secret(&self.gossiping.secret, &self.cluster_name()),
            seeds: self.gossiping.seeds.clone(),
            facts,
        };
        let (deps, herder) = (self.deps.clone(), context.address());
        let ended = herder.clone();
        self.gossiping.actor = Some(supervision::start_watched(
            move |_| ClusterActor::new(parts, deps, herder),
            move |panic| {
                if let Some(panic) = panic {
                    ended.do_send(ClusterActorCrashed(panic.message));
                }
            },
        ));
    }

    /// A copy of the topics elsewhere, with the same settings, is another cluster.
    fn cluster_name(&self) -> String {
        let (config, kafka) = (&self.deps.config, self.cluster_id.as_deref().unwrap_or_default());
        format!("{}\n{}\n{kafka}", config.group_id, config.config_storage.name)
    }

    /// What the key of the cluster is made of: the secret of the settings, or else what all workers read in the config topic.
    fn gossip_secret(&self) -> Option<String> {
        let configured = self.deps.config.gossip.secret.clone();
        configured.or_else(|| self.state.session_key().map(|key| key.value.key.clone()))
    }

    /// Writes a session key of Java's form, unless there is one. Whoever comes first does it.
    fn write_session_key(&mut self, context: &mut Context<Self>) {
        if self.gossiping.writes_key || !self.plane.is_leased(lease::now()) {
            return;
        }
        let Some(config) = self.logs.as_ref().map(|logs| logs.config.clone()) else { return };
        let key = match random_secret() {
            Ok(key) => key,
            Err(error) => return tracing::warn!(%error, "no session key is written, so there is no gossip"),
        };
        self.gossiping.writes_key = true;
        let write = async move {
            let check = move |state: &ClusterState| {
                let key =
                    SessionKey { key: key.clone(), algorithm: KEY_ALGORITHM.into(), creation_timestamp: unix_ms() };
                let is_absent = state.session_key().is_none();
                Ok::<_, std::convert::Infallible>(
                    is_absent.then_some(ConfigRecord::SessionKey(key)).into_iter().collect(),
                )
            };
            if let Err(error) = config.put(check).await {
                tracing::warn!(%error, "the session key was not written; tried again");
                tokio::time::sleep(KEY_INTERVAL).await;
            }
        };
        context.spawn(write.into_actor(self).map(|(), herder, _| herder.gossiping.writes_key = false));
    }

    /// Where others may be: as the settings say, and as the members' records do.
    fn seeds(&self) -> Vec<String> {
        let own = &self.parts.identity.worker_id;
        let others = self.state.members().filter(|(id, _)| id != own).map(|(_, member)| &member.record.gossip_address);
        let seeds = self.deps.config.gossip.seeds.iter().chain(others.filter(|address| !address.is_empty()));
        seeds.cloned().collect()
    }

    fn facts(&self) -> Facts {
        let own = self.state.member(&self.parts.identity.worker_id);
        let life = self.plane.incarnation();
        Facts {
            nonce: own.filter(|own| life == Some(own.incarnation())).map(|own| own.record.nonce.0).unwrap_or_default(),
            incarnation: life.map(|life| life.0),
            leased: self.plane.is_leased(lease::now()),
            load: u32::try_from(self.running.len()).unwrap_or(u32::MAX),
            version: env!("CARGO_PKG_VERSION").into(),
            rest_url: self.parts.identity.rest_url.clone(),
            plugins: self.gossiping.plugins,
            config_end: self.config_position,
            status_ends: self.status_positions.clone(),
            leaving: self.plane.has_left(),
        }
    }

    /// Whether a member lives by gossip; `None` where there is none.
    pub(super) fn is_heard(&self, life: Incarnation) -> Option<bool> {
        self.gossiping.actor.as_ref()?;
        Some(self.plane.incarnation() == Some(life) || self.gossiping.heard.iter().any(|peer| peer.incarnation == life))
    }
}

impl Handler<Heard> for Herder {
    type Result = ();
    fn handle(&mut self, Heard(view): Heard, context: &mut Context<Self>) {
        let peer = |facts: Facts| {
            let incarnation = Incarnation(facts.incarnation?);
            Some(Peer { incarnation, leased: facts.leased, config: facts.config_end, status: facts.status_ends })
        };
        let heard: Vec<Peer> = view.peers.into_values().filter_map(peer).collect();
        if *heard == *self.gossiping.heard {
            return;
        }
        for (id, member) in self.state.members() {
            let (life, is_in) = (member.incarnation(), |peers: &[Peer]| {
                peers.iter().any(|peer| peer.incarnation == member.incarnation())
            });
            if is_in(&self.gossiping.heard) && !is_in(&heard) {
                tracing::info!(worker = id, incarnation = %life, "gossip has lost a worker");
            }
        }
        self.gossiping.heard = heard.into();
        self.step(Event::Peers(self.gossiping.heard.clone()), context);
    }
}

/// The cluster actor crashed.
#[derive(Message)]
#[rtype(result = "()")]
struct ClusterActorCrashed(String);

impl Handler<ClusterActorCrashed> for Herder {
    type Result = ();
    fn handle(&mut self, ClusterActorCrashed(message): ClusterActorCrashed, context: &mut Context<Self>) {
        let wait = self.gossiping.restarts.next_backoff();
        tracing::error!(message, ?wait, "cluster actor crashed and is built again");
        context.run_later(wait, |herder, context| {
            let facts = herder.facts();
            herder.start_gossip(facts, context);
        });
    }
}

fn unix_ms() -> i64 {
    let age = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(age.as_millis()).unwrap_or(i64::MAX)
}
