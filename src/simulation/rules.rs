//! What tests take away, to see that it is missed. Outside of tests nothing can be taken away: the switches do not exist.

use crate::cluster::{ControlPlane, Millis, Page, Report, Settings};
#[cfg(test)]
use crate::cluster::{Rules, Waiting};

/// All units.
const ALL: Page<'static> = Page { after: None, limit: usize::MAX };

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
    /// A reason, by how it begins, and whether it is kept quiet about or told as another one. Without a true one: a wrong reason.
    #[cfg(test)]
    pub(super) untold: Option<(&'static str, bool)>,
    /// Beside each control plane runs one that compares all units after each event, and has to say the same.
    #[cfg(test)]
    pub(super) thorough: bool,
}

impl Switches {
    #[cfg(not(test))]
    pub(super) const ALL: Switches = Switches {};
    #[cfg(test)]
    pub(super) const ALL: Switches = Switches {
        rules: Rules::ALL,
        transaction: true,
        owner_check: true,
        repeated_release: true,
        untold: None,
        thorough: false,
    };

    pub(super) fn control_plane(self, settings: Settings) -> ControlPlane {
        #[cfg(test)]
        return ControlPlane::with_rules(settings, self.rules);
        #[cfg(not(test))]
        ControlPlane::new(settings)
    }

    /// What a control plane says of its units.
    pub(super) fn report(self, plane: &ControlPlane, now: Millis) -> Report {
        #[cfg(test)]
        if let Some((untold, quiet)) = self.untold {
            let mut report = plane.report(Some(ALL), now);
            for unit in &mut report.units {
                let instead = if quiet { None } else { Some(Waiting::Due) };
                if unit.waiting.as_ref().is_some_and(|waiting| waiting.to_string().starts_with(untold)) {
                    unit.waiting = instead;
                }
            }
            return report;
        }
        plane.report(Some(ALL), now)
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
