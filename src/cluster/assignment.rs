//! Who should run the units.
//!
//! One worker per group for now: of those that joined, the one that joined first. The later one leaves again when it sees
//! that (see `membership`). The answer need not be the same everywhere at every moment: registers decide.

use super::member::{Incarnation, Member, MemberState};

/// The life of the worker that should run every unit. Draining members take none; without members nobody owns.
pub(super) fn owner(members: &[Member]) -> Option<Incarnation> {
    members.iter().filter(|member| member.state == MemberState::Joined).map(|member| member.incarnation).min()
}

#[cfg(test)]
mod tests {
    use super::super::member::Nonce;
    use super::*;

    fn check(members: &[(i64, MemberState)], expected: Option<i64>) {
        let members: Vec<Member> = members
            .iter()
            .map(|(at, state)| Member {
                id: format!("w{at}").as_str().into(),
                incarnation: Incarnation(*at),
                nonce: Nonce(0),
                state: *state,
            })
            .collect();
        assert_eq!(owner(&members), expected.map(Incarnation));
    }

    #[test]
    fn the_first_that_joined_and_takes_units() {
        use MemberState::{Draining, Joined};
        check(&[], None);
        check(&[(3, Joined)], Some(3));
        check(&[(7, Joined), (3, Joined)], Some(3));
        check(&[(7, Joined), (3, Draining)], Some(7));
        check(&[(3, Draining)], None);
    }
}
