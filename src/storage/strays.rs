//! Records of a unit in another partition of the status topic than the one that its key belongs to. They are left there when the topic gets more
//! partitions, and nobody knows which of two partitions was written last.
//!
//! Workers read as many partitions as there were when they opened the topic, write to the one of these that the key belongs to, and end when there are more. So the
//! record in the *home* partition, by the present count, was written by who reads what we read; a stray one by somebody who opened the topic
//! before it grew, may still live, and does not see what is written at home. Its claim holds the unit as long as nobody has claimed it at home: its holder is waited for as any
//! other. Who claims the unit at home replaces that claim, so that the unit is contested for the fence time, and removes the stray record
//! behind its own one.

use std::collections::BTreeMap;

use crate::cluster::Register;

/// What stands of one unit outside of its home partition: by partition, never empty registers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Strays(BTreeMap<i32, Register>);

impl Strays {
    /// Takes a record in; an empty register stands for a tombstone.
    pub(super) fn read(&mut self, partition: i32, register: Register) {
        match register {
            Register::Empty => _ = self.0.remove(&partition),
            register => _ = self.0.insert(partition, register),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Where they stand.
    pub(super) fn partitions(&self) -> impl Iterator<Item = i32> {
        self.0.keys().copied()
    }

    /// The register of a unit of which `home` stands in its own partition. Of several stray claims any one is waited for.
    pub(super) fn register(&self, home: Register) -> Register {
        if home.holder().is_some() {
            return home;
        }
        let held = self.0.values().find(|register| register.holder().is_some());
        let any = || self.0.values().next().filter(|_| home == Register::Empty);
        held.or_else(any).copied().unwrap_or(home)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{Incarnation, NO_SET, RegisterFields};

    fn ours(incarnation: i64, held: bool) -> Register {
        Register::Ours(RegisterFields { incarnation: Incarnation(incarnation), claim: 1, held, at: 0, set: NO_SET })
    }

    #[test]
    fn a_claim_counts_before_what_is_free_and_home_before_a_stray() {
        let check = |home, strays: &[Register], expected: Register| {
            let mut all = Strays::default();
            for (partition, stray) in (1..).zip(strays) {
                all.read(partition, *stray);
            }
            assert_eq!(all.register(home), expected, "{home:?}, {strays:?}");
        };
        check(Register::Empty, &[], Register::Empty);
        check(ours(2, true), &[ours(1, true)], ours(2, true));
        for home in [Register::Empty, Register::Foreign, ours(2, false)] {
            check(home, &[Register::Foreign, ours(1, true)], ours(1, true));
        }
        check(ours(2, false), &[ours(1, false)], ours(2, false));
        check(Register::Empty, &[ours(1, false)], ours(1, false));
    }
}
