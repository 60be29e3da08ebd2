//! What tests take away, to see that it is missed. Outside of tests nothing can be taken away: the switches do not exist.

#[cfg(test)]
use crate::cluster::Rules;
use crate::cluster::{ControlPlane, Settings};

/// Which rules apply, of the control plane and of what surrounds it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Switches {
    /// Those of the control plane.
    #[cfg(test)]
    pub(super) rules: Rules,
    /// A commit fails when another writer has taken the id over. Without: an accepted write is lost.
    #[cfg(test)]
    pub(super) transaction: bool,
    /// Task sets are written by the owner of the connector for the configuration in force. Without: the set of a zombie stays.
    #[cfg(test)]
    pub(super) owner_check: bool,
    /// A release is said again as long as the register does not say it. Without: nobody runs the unit as long as its holder lives.
    #[cfg(test)]
    pub(super) repeated_release: bool,
    /// Beside each control plane runs one that compares all units after each event, and has to say the same.
    #[cfg(test)]
    pub(super) thorough: bool,
}

impl Switches {
    #[cfg(not(test))]
    pub(super) const ALL: Switches = Switches {};
    #[cfg(test)]
    pub(super) const ALL: Switches =
        Switches { rules: Rules::ALL, transaction: true, owner_check: true, repeated_release: true, thorough: false };

    pub(super) fn control_plane(self, settings: Settings) -> ControlPlane {
        #[cfg(test)]
        return ControlPlane::with_rules(settings, self.rules);
        #[cfg(not(test))]
        ControlPlane::new(settings)
    }
}

macro_rules! getters {
    ($($name:ident)*) => { impl Switches { $(
        #[cfg(test)]
        pub(super) const fn $name(self) -> bool { self.$name }
        #[cfg(not(test))]
        pub(super) const fn $name(self) -> bool { true }
    )* } };
}

getters! { transaction owner_check repeated_release }
