//! What happened: in words for one history, in figures for many.

use std::fmt::{self, Write};

use super::clock::{MS, Micros};

/// The lines of one history.
#[derive(Default)]
pub(super) struct History {
    text: String,
}

impl History {
    pub(super) fn add(&mut self, at: Micros, line: String) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{:>6}.{:03} {line}", at / MS, at % MS);
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

/// What was counted. Times are of true time.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Events that control planes were given.
    pub steps: u64,
    /// Records that were written, and those that compaction has removed.
    pub records: usize,
    /// See `records`.
    pub compacted: usize,
    /// Transactions that were committed, and attempts that were fenced.
    pub transactions: usize,
    /// See `transactions`.
    pub fenced: usize,
    /// Disturbances of all kinds.
    pub faults: usize,
    /// Processes that were started.
    pub boots: usize,
    /// Members that others declared gone.
    pub evictions: usize,
    /// Units that were started, told to stop, and suspended.
    pub starts: usize,
    /// See `starts`.
    pub stops: usize,
    /// See `starts`.
    pub suspensions: usize,
    /// Changes after healing, and those in which a unit was started more than once: two workers with different views claimed it.
    pub changes: usize,
    /// See `changes`.
    pub crossings: usize,
    /// Times that a control plane was asked about its units, and units that waited for something.
    pub looks: u64,
    /// See `looks`.
    pub waits: usize,
    /// From the last fault until every unit ran once, and until every worker was a settled member as well.
    pub units_healed_ms: u64,
    /// See `units_healed_ms`.
    pub healed_ms: u64,
}

impl Figures {
    /// Adds those of another history; of times the longest counts.
    pub(super) fn add(&mut self, other: &Figures) {
        self.steps += other.steps;
        self.records += other.records;
        self.compacted += other.compacted;
        self.transactions += other.transactions;
        self.fenced += other.fenced;
        self.faults += other.faults;
        self.boots += other.boots;
        self.evictions += other.evictions;
        self.starts += other.starts;
        self.stops += other.stops;
        self.suspensions += other.suspensions;
        self.changes += other.changes;
        self.crossings += other.crossings;
        self.looks += other.looks;
        self.waits += other.waits;
        self.units_healed_ms = self.units_healed_ms.max(other.units_healed_ms);
        self.healed_ms = self.healed_ms.max(other.healed_ms);
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { steps, records, compacted, transactions, fenced, faults, boots, evictions, .. } = self;
        let Figures {
            starts, stops, suspensions, changes, crossings, looks, waits, units_healed_ms, healed_ms, ..
        } = self;
        writeln!(f, "{steps} events; {faults} faults, {boots} starts of workers, {evictions} evictions")?;
        writeln!(f, "{records} records ({compacted} compacted), {transactions} transactions ({fenced} fenced)")?;
        writeln!(
            f,
            "{starts} starts of units, {stops} stops, {suspensions} suspensions; {changes} changes at rest ({crossings} with crossing claims)"
        )?;
        writeln!(f, "{waits} units that waited and said why, in {looks} looks")?;
        write!(
            f,
            "all units ran once {units_healed_ms} ms after the last fault, all workers were settled after {healed_ms} ms"
        )
    }
}
