//! Opening the logs, and what a herder is made of.

use std::sync::{Arc, Mutex, PoisonError};

use actix::prelude::*;
use futures_util::stream;
use tokio::sync::mpsc;

use super::stores::{OpenError, Stores, open_stores};
use super::*;
use crate::actors::cluster::Place;
use crate::actors::shutdown::Shutdown;
use crate::actors::supervision::STATUS_ACTOR_RESTARTS;

/// Who this worker is.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Advertised host:port.
    pub worker_id: String,
    /// Advertised URL of its REST API.
    pub rest_url: String,
    /// Where it gossips; `None`: nowhere, since nobody else can be in its group.
    pub gossip: Option<Place>,
    /// Made up by the process, so that it knows itself at its address also before it has joined.
    pub process: String,
}

/// How the worker ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// As it was asked to.
    Asked,
    /// For this reason.
    Failed(String),
}

/// Tells `main` how the worker ended.
#[derive(Debug, Clone, Default)]
pub struct Stopped(Arc<Mutex<Option<Stop>>>);

impl Stopped {
    /// The first reason counts.
    pub fn set(&self, stop: Stop) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(stop);
    }

    /// How the worker ended, if it has.
    pub fn get(&self) -> Option<Stop> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a herder is made of; outlives its crashes.
#[derive(Clone)]
pub struct HerderParts {
    /// Who this worker is.
    pub identity: Identity,
    /// Requests of REST. They wait while a herder is built again.
    pub requests: Arc<tokio::sync::Mutex<mpsc::Receiver<HerderRequest>>>,
    /// Whether the process is to end. Looked at by every herder, so none can lose it.
    pub shutdown: Shutdown,
    /// How the worker ended.
    pub stopped: Stopped,
}

impl Herder {
    /// Opens the logs, again and again until the brokers answer. What will not get better by waiting ends the process.
    pub(super) fn open_logs(&mut self, context: &mut Context<Self>) {
        let (deps, writer) = (self.deps.clone(), self.parts.identity.worker_id.clone());
        let open = async move { open_stores(&deps, writer).await };
        context.spawn(open.into_actor(self).map(|opened, herder, context| match opened {
            Ok(stores) => herder.opened(stores, context),
            Err(OpenError::Unusable(reason)) => herder.stop_process(Stop::Failed(reason), context),
            Err(OpenError::Unavailable(reason)) => {
                let servers = &herder.deps.config.bootstrap_servers;
                tracing::warn!(bootstrap_servers = servers, reason, "Kafka cannot be reached; trying again");
                herder.starting = format!("the worker is starting: Kafka at {servers} cannot be reached: {reason}");
                let wait = backoff(herder.attempts + 2);
                herder.attempts += 1;
                context.run_later(wait, |herder, context| herder.open_logs(context));
            }
        }));
    }

    fn opened(&mut self, stores: Stores, context: &mut Context<Self>) {
        let Stores { config, status, offsets, offset_topic, cluster_id } = stores;
        self.cluster_id = Some(cluster_id);
        self.starting = "the worker is starting: it has read the internal topics and joins the cluster".into();
        let writer = self.start_status_actor(status.clone(), context);
        let kept = config.clone();
        context.spawn(async move { kept.keep_restated().await }.into_actor(self));
        let (state, config_position, updates) = config.subscribe();
        context.add_stream(stream_of(updates));
        let (statuses, status_positions, updates) = status.subscribe();
        context.add_stream(stream_of(updates));
        let lost = {
            let (config, status) = (config.clone(), status.clone());
            let offsets_lost = async move {
                match &offset_topic {
                    Some(topic) => topic.log().lost().await,
                    None => std::future::pending().await,
                }
            };
            async move {
                tokio::select! {
                    error = offsets_lost => error,
                    error = config.log().lost() => error,
                    error = status.log().lost() => error,
                }
            }
        };
        context.spawn(lost.into_actor(self).map(|error, herder, context| {
            herder.step(Event::LogLost { error: error.to_string() }, context);
        }));
        self.keep_gossiping(context);
        self.logs = Some(Logs { config, status, offsets, writer });
        self.step(Event::Start, context);
        self.statuses = statuses.clone();
        for (unit, status) in statuses.units() {
            let (name, group) = (units::name(unit), units::group(unit));
            let (partition, register) = (status.partition, status.register);
            self.step(Event::StatusRead { unit: name, group, partition, register }, context);
        }
        (self.config_position, self.status_positions) = (config_position, status_positions);
        let connectors: Vec<String> = state.connectors().map(|(name, _)| name.to_owned()).collect();
        self.folded(state, &connectors, context);
        self.progressed(context);
    }

    fn start_status_actor(&mut self, store: Arc<StatusStore>, context: &mut Context<Self>) -> Addr<StatusActor> {
        let herder = context.address();
        let ended = herder.clone();
        supervision::start_watched(
            move |_| StatusActor::new(store, herder),
            move |panic| {
                if let Some(panic) = panic {
                    ended.do_send(StatusActorCrashed(panic.message));
                }
            },
        )
    }
}

/// The status actor crashed.
#[derive(Message)]
#[rtype(result = "()")]
struct StatusActorCrashed(String);

impl Handler<StatusActorCrashed> for Herder {
    type Result = ();
    /// Writes that waited are lost with it: the control plane says its own again, and the states are written anew.
    fn handle(&mut self, StatusActorCrashed(message): StatusActorCrashed, context: &mut Context<Self>) {
        let wait = self.status_restarts.next_backoff();
        if self.status_restarts.count > STATUS_ACTOR_RESTARTS {
            let reason =
                format!("the status actor crashed {} times in a row, last with: {message}", self.status_restarts.count);
            return self.stop_process(Stop::Failed(reason), context);
        }
        tracing::error!(message, ?wait, "status actor crashed and is built again");
        context.run_later(wait, |herder, context| {
            let Some(status) = herder.logs.as_ref().map(|logs| logs.status.clone()) else { return };
            let writer = herder.start_status_actor(status, context);
            if let Some(logs) = &mut herder.logs {
                logs.writer = writer;
            }
            herder.repeat_status_writes(context);
        });
    }
}

/// The updates of a store as a stream.
fn stream_of<T: 'static>(mut updates: mpsc::Receiver<T>) -> impl stream::Stream<Item = T> {
    stream::poll_fn(move |context| updates.poll_recv(context))
}

impl Herder {
    /// The logs, or why a request cannot be carried out yet.
    pub(super) fn logs(&self) -> Result<&Logs, HerderError> {
        self.logs.as_ref().ok_or_else(|| HerderError::Unavailable(self.starting.clone()))
    }
}
