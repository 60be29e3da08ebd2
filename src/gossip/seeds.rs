//! Addresses at which other workers may be found. chitchat takes seeds at the start only; these may change at any time.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chitchat::ChitchatHandle;
use tokio::net::lookup_host;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Seeds that are used; those beyond are left out. Twice [`NODES_MAX`](super::NODES_MAX): the members and as many from the settings.
pub const SEEDS_MAX: usize = 256;
/// How often seeds that are not live are spoken to. New ones are at once.
const SEED_INTERVAL: Duration = Duration::from_secs(1);
/// How many of them at a time, drawn by lot.
const SEED_FANOUT: usize = 3;
/// How long an address of a name is used before the name is looked up again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(30);
/// Names that are looked up at once.
const RESOLVE_FANOUT: usize = 16;
/// How long one may take.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Speaks to seeds until the sender of the list is gone.
pub async fn run(handle: Arc<ChitchatHandle>, own: SocketAddr, mut seeds: watch::Receiver<Vec<String>>) {
    let mut tick = interval(SEED_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut names = Names::default();
    seeds.mark_changed();
    loop {
        let are_new = tokio::select! {
            changed = seeds.changed() => match changed {
                Ok(()) => true,
                Err(_) => return,
            },
            _ = tick.tick() => false,
        };
        let texts = seeds.borrow_and_update().clone();
        names.look_up(&texts, Instant::now()).await;
        let live = |node: &mut chitchat::Chitchat| node.live_nodes().map(|id| id.gossip_advertise_addr).collect();
        let live: BTreeSet<SocketAddr> = handle.with_chitchat(live).await;
        let absent = names.addresses(&texts).filter(|address| *address != own && !live.contains(address));
        let mut absent: Vec<SocketAddr> = absent.collect::<BTreeSet<_>>().into_iter().collect();
        if !are_new {
            absent = fastrand::choose_multiple(absent, SEED_FANOUT);
        }
        for address in absent {
            if handle.gossip(address).is_err() {
                // The one who owns the handle says so.
                return;
            }
        }
    }
}

/// What the names among the seeds stand for.
#[derive(Debug, Default)]
struct Names {
    known: BTreeMap<String, (Instant, Vec<SocketAddr>)>,
}

impl Names {
    async fn look_up(&mut self, texts: &[String], now: Instant) {
        self.known.retain(|name, _| texts.contains(name));
        let is_old =
            |name: &str| self.known.get(name).is_none_or(|(at, _)| now.duration_since(*at) >= RESOLVE_INTERVAL);
        let old = texts.iter().filter(|text| text.parse::<SocketAddr>().is_err() && is_old(text)).take(RESOLVE_FANOUT);
        let answers = old.map(|name| async move { (name.clone(), resolve(name).await) });
        for (name, answer) in futures_util::future::join_all(answers).await {
            let (at, addresses) = self.known.entry(name.clone()).or_insert((now, Vec::new()));
            *at = now;
            match answer {
                Ok(found) => *addresses = found,
                Err(error) => tracing::warn!(seed = name, "{error:#}; its former addresses stay in use"),
            }
        }
    }

    fn addresses<'a>(&'a self, texts: &'a [String]) -> impl Iterator<Item = SocketAddr> + 'a {
        texts.iter().flat_map(|text| match text.parse() {
            Ok(address) => vec![address],
            Err(_) => self.known.get(text).map(|(_, addresses)| addresses.clone()).unwrap_or_default(),
        })
    }
}

/// The addresses of a `host:port`, at most [`SEED_FANOUT`] of them.
pub async fn resolve(name: &str) -> anyhow::Result<Vec<SocketAddr>> {
    let found = timeout(RESOLVE_TIMEOUT, lookup_host(name)).await;
    let found = found.map_err(|_| anyhow::anyhow!("the address {name} was not found within {RESOLVE_TIMEOUT:?}"))?;
    let found = found.map_err(|error| anyhow::anyhow!("the address {name} was not found: {error}"))?;
    Ok(found.take(SEED_FANOUT).collect())
}
