//! What a client may demand of a connector before it is written to.

use super::handle::{HerderError, HerderResult};

/// What has to hold of a connector when its record is written, at which time nobody else can write one. Checked before that, it would
/// let two writers through that both have seen the same version.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Precondition {
    /// It exists, in one of these versions.
    pub present: Option<Versions>,
    /// It does not exist.
    pub absent: bool,
}

/// Versions of a configuration: offsets of its record in the config topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// Whichever.
    Any,
    /// One of these; of none, where the client knows only what cannot be a version.
    OneOf(Vec<i64>),
}

impl Precondition {
    /// Whether it holds for a connector whose record has this offset; `None`: there is none.
    pub fn check(&self, connector: &str, offset: Option<i64>) -> HerderResult<()> {
        let failed = |what: &str| {
            let message = format!("Connector {connector} {what}; nothing was changed");
            Err(HerderError::PreconditionFailed(message))
        };
        match (&self.present, offset) {
            (Some(_), None) => return failed("does not exist, and the request is for one that does"),
            (Some(Versions::OneOf(versions)), Some(offset)) if !versions.contains(&offset) => {
                return failed(&format!("has version {offset} now, which the request does not name: read it again"));
            }
            _ => {}
        }
        match offset {
            Some(_) if self.absent => failed("exists already, and the request is to create it"),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_for_what_is_named_alone() {
        let versions = |versions: &[i64]| Some(Versions::OneOf(versions.to_vec()));
        for (present, absent, holds_at_7, holds_at_none) in [
            (None, false, true, true),
            (Some(Versions::Any), false, true, false),
            (versions(&[3, 7]), false, true, false),
            (versions(&[3, 8]), false, false, false),
            (versions(&[]), false, false, false),
            (None, true, false, true),
            (Some(Versions::Any), true, false, false),
        ] {
            let condition = Precondition { present, absent };
            let found = [Some(7), None].map(|offset| condition.check("a", offset).is_ok());
            assert_eq!(found, [holds_at_7, holds_at_none], "{condition:?}");
        }
    }
}
