//! What `restart.policy` does, by connector.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use prometheus::proto::{MetricFamily, MetricType};

use super::series::{AUTOMATIC_RESTARTS, OPEN_BREAKERS, RESTARTS_WAITING};
use super::{Metrics, family, label, metric};

/// Units of a connector on this worker.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UnitsByRestart {
    /// They failed and will be started again.
    pub waiting: u64,
    /// They failed and will not.
    pub open: u64,
}

#[derive(Default)]
struct Connector {
    units: UnitsByRestart,
    /// Restarts by the phase in which the unit had failed.
    restarts: BTreeMap<&'static str, u64>,
}

/// Connectors of this worker of which a unit has failed under a policy.
#[derive(Default)]
pub(super) struct Restarts(Mutex<BTreeMap<String, Connector>>);

impl Restarts {
    fn connectors(&self) -> MutexGuard<'_, BTreeMap<String, Connector>> {
        // the map is whole after each of its operations
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn families(&self) -> Vec<MetricFamily> {
        let connectors = self.connectors();
        let of = |name: &str| label("connector", name);
        let restarts = connectors.iter().flat_map(|(name, connector)| {
            let by_phase = connector.restarts.iter();
            by_phase.map(|(phase, count)| metric(MetricType::COUNTER, vec![of(name), label("phase", phase)], *count))
        });
        let restarts = restarts.collect();
        let gauge = |value: fn(&UnitsByRestart) -> u64| {
            let gauges = connectors.iter();
            gauges.map(|(name, connector)| metric(MetricType::GAUGE, vec![of(name)], value(&connector.units))).collect()
        };
        vec![
            family(AUTOMATIC_RESTARTS.0, AUTOMATIC_RESTARTS.1, MetricType::COUNTER, restarts),
            family(RESTARTS_WAITING.0, RESTARTS_WAITING.1, MetricType::GAUGE, gauge(|units| units.waiting)),
            family(OPEN_BREAKERS.0, OPEN_BREAKERS.1, MetricType::GAUGE, gauge(|units| units.open)),
        ]
    }
}

impl Metrics {
    /// A unit of a connector is started again by policy; `phase` is what it had failed in.
    pub fn restarted(&self, connector: &str, phase: &'static str) {
        let mut connectors = self.shared.restarts.connectors();
        *connectors.entry(connector.to_owned()).or_default().restarts.entry(phase).or_default() += 1;
    }

    /// How the units of a connector stand; `None`: there are none here, and its series end. They begin with the first unit that failed.
    pub fn set_restarts(&self, connector: &str, units: Option<UnitsByRestart>) {
        let mut connectors = self.shared.restarts.connectors();
        match (units, connectors.get_mut(connector)) {
            (None, Some(_)) => _ = connectors.remove(connector),
            (Some(units), Some(known)) => known.units = units,
            (Some(units), None) if units != UnitsByRestart::default() => {
                connectors.insert(connector.to_owned(), Connector { units, restarts: BTreeMap::new() });
            }
            (_, None) => {}
        }
    }

    /// Ends the series of all connectors: nothing runs here.
    pub fn forget_all_restarts(&self) {
        self.shared.restarts.connectors().clear();
    }
}
