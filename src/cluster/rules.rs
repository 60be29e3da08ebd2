//! A switch for each rule, for tests only: a rule that can be taken away without a test noticing is not tested.
//!
//! Outside of tests every rule is the constant `true` and the switch does not exist.

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Which rules apply: all of them.
        #[cfg(not(test))]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Rules;

        #[cfg(not(test))]
        impl Rules {
            pub(super) const ALL: Rules = Rules;
            $($(#[$doc])* pub(super) const fn $name(self) -> bool { true })*
        }

        /// Which rules apply.
        #[cfg(test)]
        #[derive(Debug, Clone, Copy)]
        pub(crate) struct Rules { $($(#[$doc])* pub(crate) $name: bool,)* }

        #[cfg(test)]
        impl Rules {
            pub(crate) const ALL: Rules = Rules { $($name: true,)* };
            $(pub(super) const fn $name(self) -> bool { self.$name })*
        }
    };
}

rules! {
    /// A unit runs while leased only. Without: two runners.
    lease,
    /// A claim that replaced an unreleased one waits until the other's lease is over. Without: two runners.
    age,
    /// Only a claim that was read counts. Without: two runners.
    read_back,
    /// The holder is waited for while it is a member. Serves orderly stops, not safety.
    wait_release,
    /// A claim is written and used only after everything was folded that its rivals had folded. Without: units of a worker that has just joined are claimed.
    causal,
    /// Tasks of a new set wait for those of the older one. Without: two sets at once.
    barrier,
    /// A register that is merely empty is trusted only when no older view can be leased any more. Without: two sets at once.
    barrier_age,
    /// A worker joins others only when what it found when it began has aged. Argued, not observed: the simulator finds no failure without it.
    barrier_first,
    /// Only units that are due are compared. Without: the same is done, with more work.
    only_due,
    /// A claim is compared again when an end is reached. Without: nothing keeps the unit from running, and it does not.
    reached_due,
    /// Claims of an older set are released, also by a worker that will own the unit again. Without: deadlock.
    release_own,
    /// The status of a unit that is not wanted any more is removed. Without: it stays.
    left_overs,
    /// Units stay with their holders. Without: a change moves units that nobody touched.
    keep,
    /// A member that is new takes its share from others. Without: it has none until something else moves.
    level,
}
