//! The assignment as the docs of the module say it, and nothing kept that can be counted again: what the real one has to equal.

use super::*;

pub(super) fn assign_plainly(members: &[Member], units: &[Placeable<'_>], rules: Rules) -> Vec<Option<Owner>> {
    let mut takers: Vec<&Member> = members.iter().filter(takes_units).collect();
    takers.sort_by_key(|member| &member.id);
    let mut plan = Plain { units, owners: vec![None; units.len()], takers };
    if !plan.takers.is_empty() {
        plan.keep_and_place(rules);
        if rules.level() {
            plan.level();
        }
    }
    plan.owners
}

struct Plain<'a> {
    units: &'a [Placeable<'a>],
    owners: Vec<Option<Owner>>,
    takers: Vec<&'a Member>,
}

impl Plain<'_> {
    fn share(&self) -> usize {
        self.units.len() / self.takers.len()
    }

    fn load(&self, life: Incarnation) -> usize {
        self.owners.iter().flatten().filter(|owner| owner.life == life).count()
    }

    fn wants(&self, member: &Member) -> bool {
        !member.settled && self.load(member.incarnation) < self.share()
    }

    fn of_group(&self, unit: usize, life: Incarnation) -> usize {
        let same = |other: usize| self.units[unit].group.is_some() && self.units[other].group == self.units[unit].group;
        let is_there = |other: usize| self.owners[other].is_some_and(|owner| owner.life == life);
        (0..self.units.len()).filter(|other| same(*other) && is_there(*other)).count()
    }

    /// Of the members that may have this unit, the one that should.
    fn best(&self, unit: usize, may: impl Fn(&Member) -> bool) -> Option<Incarnation> {
        let may = self.takers.iter().filter(|member| may(member));
        let rank = |member: &&&Member| {
            let score = score(self.units[unit].name, seed(&member.id));
            (self.of_group(unit, member.incarnation), Reverse(score))
        };
        may.min_by_key(rank).map(|member| member.incarnation)
    }

    fn keep_and_place(&mut self, rules: Rules) {
        let mut free: Vec<usize> = (0..self.units.len()).collect();
        free.sort_by_key(|unit| (score(self.units[*unit].name, 0), *unit));
        let holder_of = |plan: &Self, unit: usize| {
            let holder = plan.units[unit].holder.filter(|_| rules.keep());
            holder.filter(|life| plan.takers.iter().any(|member| member.incarnation == *life))
        };
        for unit in 0..self.units.len() {
            self.owners[unit] = holder_of(self, unit).map(|life| Owner { life, second_choice: false });
        }
        free.retain(|unit| self.owners[*unit].is_none());
        let most = (11 * self.units.len()).div_ceil(10 * self.takers.len());
        for unit in free {
            let wanting = self.best(unit, |member| self.wants(member));
            let life = wanting.or_else(|| self.best(unit, |member| self.load(member.incarnation) < most));
            let second_choice = wanting.is_none() && life != self.best(unit, |_| true);
            self.owners[unit] = life.map(|life| Owner { life, second_choice });
        }
    }

    fn level(&mut self) {
        for member in self.takers.clone() {
            if !self.wants(member) {
                continue;
            }
            let seed = seed(&member.id);
            let mut order: Vec<usize> = (0..self.units.len()).collect();
            order.sort_by_key(|unit| (Reverse(score(self.units[*unit].name, seed)), *unit));
            for unit in order {
                let above = self.owners[unit].is_some_and(|owner| self.load(owner.life) > self.share());
                if self.wants(member) && above {
                    self.owners[unit] = Some(Owner { life: member.incarnation, second_choice: false });
                }
            }
        }
    }
}
