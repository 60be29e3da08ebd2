//! Gossips on behalf of the herder: says what it says, and tells it who lives. Ends with its herder, and is built again when it crashes.
//!
//! It decides nothing. Without it, because its port is taken for example, dead workers are found by probes alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix::prelude::*;
use futures_util::stream;
use tokio::sync::watch;
use tokio::time::timeout;

use super::deps::Deps;
use super::herder::Herder;
use super::supervision::Restarts;
use crate::gossip::{Facts, Gossip, Keys, Settings, Timing, View};

/// How long the addresses of gossip may take to be looked up, before another attempt.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// How often it is looked whether the herder is there.
const HERDER_LOOK: Duration = Duration::from_secs(1);

/// Where gossip takes place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Where to listen, UDP.
    pub listen: SocketAddr,
    /// What others send to: `host:port`.
    pub advertised: String,
}

/// What the herder gives a new one.
pub struct Parts {
    /// The worker's id.
    pub worker_id: String,
    /// The name of the cluster: nobody of another one is heard, whatever it is configured to be.
    pub cluster: String,
    /// Where.
    pub place: Place,
    /// The keys of the cluster.
    pub keys: Keys,
    /// Where others may be.
    pub seeds: Vec<String>,
    /// What to say first.
    pub facts: Facts,
}

/// Herder to cluster actor: what is so now. Said several times a second, since it also says that the herder lives.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Say(pub Facts);

/// Herder to cluster actor: where others may be.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Seeds(pub Vec<String>);

/// Herder to cluster actor: the session key is another one.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Rekey(pub Keys);

/// Cluster actor to herder: who lives.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Heard(pub View);

/// See the module.
pub struct ClusterActor {
    settings: Settings,
    facts: Facts,
    gossip: Option<Gossip>,
    restarts: Restarts,
    deps: Arc<Deps>,
    herder: Addr<Herder>,
}

impl ClusterActor {
    /// One that begins to gossip when it starts.
    pub fn new(parts: Parts, deps: Arc<Deps>, herder: Addr<Herder>) -> Self {
        let settings = Settings {
            worker_id: parts.worker_id,
            group_id: parts.cluster,
            generation: 0,
            listen: parts.place.listen,
            advertised: parts.place.advertised,
            seeds: parts.seeds,
            keys: parts.keys,
            timing: Timing::default(),
        };
        ClusterActor { settings, facts: parts.facts, gossip: None, restarts: Restarts::new(), deps, herder }
    }

    fn open(&mut self, context: &mut Context<Self>) {
        // It has to rise from start to start; a clock that was set back makes others wait until they have forgotten the last one.
        let age = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.settings.generation = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let start = timeout(START_TIMEOUT, Gossip::start(self.settings.clone(), self.facts.clone()));
        context.spawn(start.into_actor(self).map(|started, actor, context| match started {
            Ok(Ok(gossip)) => actor.opened(gossip, context),
            Ok(Err(error)) => actor.try_again(&format!("{error:#}"), context),
            Err(_) => actor.try_again("its addresses could not be looked up in time", context),
        }));
    }

    fn opened(&mut self, gossip: Gossip, context: &mut Context<Self>) {
        tracing::info!(listen = %self.settings.listen, advertised = %gossip.address(), "gossip");
        let counters = gossip.counters();
        self.deps.metrics.set_gossip(move || counters.all().to_vec());
        // They may have changed while it was started.
        gossip.set_seeds(self.settings.seeds.clone());
        gossip.set_keys(self.settings.keys.clone());
        context.add_stream(views(gossip.view()));
        self.gossip = Some(gossip);
    }

    fn try_again(&mut self, reason: &str, context: &mut Context<Self>) {
        let wait = self.restarts.next_backoff();
        let listen = self.settings.listen;
        tracing::warn!(%listen, reason, ?wait, "no gossip: dead workers are noticed later; tried again");
        context.run_later(wait, |actor, context| actor.open(context));
    }
}

impl Actor for ClusterActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Context<Self>) {
        // Its port is for the one that comes after.
        context.run_interval(HERDER_LOOK, |actor, context| {
            if !actor.herder.connected() {
                context.stop();
            }
        });
        self.open(context);
    }
}

impl StreamHandler<View> for ClusterActor {
    fn handle(&mut self, view: View, _: &mut Context<Self>) {
        self.herder.do_send(Heard(view));
    }

    /// Gossip broke, and has said why.
    fn finished(&mut self, context: &mut Context<Self>) {
        self.gossip = None;
        // What they said last is not to be held against them: they are asked.
        self.herder.do_send(Heard(View::default()));
        self.try_again("it ended by itself", context);
    }
}

impl Handler<Say> for ClusterActor {
    type Result = ();
    fn handle(&mut self, Say(facts): Say, _: &mut Context<Self>) {
        if let Some(gossip) = &self.gossip
            && let Err(error) = gossip.say(&facts)
        {
            tracing::error!(%error, "a fact about this worker is not gossiped");
        }
        self.facts = facts;
    }
}

impl Handler<Seeds> for ClusterActor {
    type Result = ();
    fn handle(&mut self, Seeds(seeds): Seeds, _: &mut Context<Self>) {
        if let Some(gossip) = &self.gossip {
            gossip.set_seeds(seeds.clone());
        }
        self.settings.seeds = seeds;
    }
}

impl Handler<Rekey> for ClusterActor {
    type Result = ();
    fn handle(&mut self, Rekey(keys): Rekey, _: &mut Context<Self>) {
        let keys = keys.replacing(&self.settings.keys);
        if let Some(gossip) = &self.gossip {
            gossip.set_keys(keys.clone());
        }
        self.settings.keys = keys;
    }
}

/// The view now, and each time that it has changed.
fn views(view: watch::Receiver<View>) -> impl stream::Stream<Item = View> {
    stream::unfold((view, true), |(mut view, is_first)| async move {
        if !is_first {
            view.changed().await.ok()?;
        }
        let seen = view.borrow_and_update().clone();
        Some((seen, (view, false)))
    })
}
