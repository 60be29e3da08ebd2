//! The task between the owner and chitchat: says the owner's facts, and shows who lives.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use chitchat::{Chitchat, ChitchatHandle, ChitchatId, NodeState};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::counters::GossipCounters;
use super::facts::{LEAVING, YES};
use super::view::{Stalls, View, view_of};

/// How often the task looks whether it was kept from running.
const TICK: Duration = Duration::from_millis(100);

/// The texts of facts, with their names.
pub type Texts = Vec<(&'static str, String)>;

/// See the module.
pub struct Driver {
    handle: Arc<ChitchatHandle>,
    own: String,
    said: watch::Receiver<Texts>,
    live: watch::Receiver<BTreeMap<ChitchatId, NodeState>>,
    view: watch::Sender<View>,
    counters: Arc<GossipCounters>,
    stalls: Stalls,
    /// Facts that could not be read when it looked last: they count once.
    unreadable: u64,
}

impl Driver {
    pub fn new(
        handle: Arc<ChitchatHandle>,
        own: String,
        said: watch::Receiver<Texts>,
        live: watch::Receiver<BTreeMap<ChitchatId, NodeState>>,
        view: watch::Sender<View>,
        counters: Arc<GossipCounters>,
    ) -> Self {
        Driver { handle, own, said, live, view, counters, stalls: Stalls::new(Instant::now()), unreadable: 0 }
    }

    /// Until chitchat ends or the owner is gone.
    pub async fn run(mut self) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ended = self.handle.termination_watcher();
        tokio::pin!(ended);
        loop {
            tokio::select! {
                result = &mut ended => {
                    if let Err(error) = result {
                        tracing::error!("gossip has ended: {error:#}");
                    }
                    return;
                }
                changed = self.said.changed() => match changed {
                    Ok(()) => self.say().await,
                    Err(_) => return,
                },
                changed = self.live.changed() => match changed {
                    Ok(()) => self.show(Instant::now()),
                    // chitchat is gone, with the handle that this task holds: that cannot be.
                    Err(_) => return,
                },
                _ = tick.tick() => {
                    let now = Instant::now();
                    self.stalls.tick(now);
                    self.show(now);
                }
            }
        }
    }

    /// Sets what has changed; chitchat leaves the rest alone. A goodbye goes to everybody at once.
    async fn say(&mut self) {
        let texts = self.said.borrow_and_update().clone();
        let leaves = texts.iter().any(|(name, text)| *name == LEAVING && text == YES);
        let set = |node: &mut Chitchat| {
            let state = node.self_node_state();
            let goodbye = leaves && state.get(LEAVING) != Some(YES);
            for (name, text) in &texts {
                state.set(name, text);
            }
            let live = node.live_nodes().filter(|_| goodbye).filter(|id| *id != node.self_chitchat_id());
            live.map(|id| id.gossip_advertise_addr).collect::<Vec<SocketAddr>>()
        };
        for address in self.handle.with_chitchat(set).await {
            if self.handle.gossip(address).is_err() {
                // `run` sees the end of chitchat next.
                return;
            }
        }
    }

    fn show(&mut self, now: Instant) {
        let (seen, unreadable) = view_of(&self.live.borrow_and_update(), &self.own);
        self.counters.unreadable_facts.fetch_add(unreadable.saturating_sub(self.unreadable), Ordering::Relaxed);
        self.unreadable = unreadable;
        self.view.send_if_modified(|shown| {
            let next = self.stalls.shown(seen, shown, now);
            let is_new = next != *shown;
            *shown = next;
            is_new
        });
    }
}
