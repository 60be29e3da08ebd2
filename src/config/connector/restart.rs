//! `restart.policy`: whether units of a connector that failed are started again. Kafka Connect has no such settings, and its definitions are listed without them: they
//! are shown in a validation as far as they are set, as overrides of clients are.

use connect_api::{ConfigDef, ConfigKey, ConnectError, Importance, Props, Type, Validator, Width};

use super::Checked;

const GROUP: &str = "Restart";
const POLICY: &str = "restart.policy";
const BACKOFF_INITIAL: &str = "restart.backoff.initial.ms";
const BACKOFF_MAX: &str = "restart.backoff.max.ms";
const ATTEMPTS_MAX: &str = "restart.max.attempts";
const WINDOW: &str = "restart.window.ms";

/// The value of `restart.policy` that asks for something.
const ON_FAILURE: &str = "on-failure";

/// The shortest back-off, in ms: each failure is a line of the log, with its trace.
const BACKOFF_LEAST_MS: f64 = 100.0;

/// The longest back-off that may be asked for, in ms: a day.
const BACKOFF_MOST_MS: f64 = 86_400_000.0;

/// The longest window that may be asked for, in ms: a week.
const WINDOW_MOST_MS: f64 = 604_800_000.0;

/// Failures that are remembered of a unit at most.
const ATTEMPTS_MOST: f64 = 1000.0;

/// `restart.policy=on-failure` with all that belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnFailure {
    /// The first back-off, in ms. Doubled each time.
    pub backoff_initial_ms: u64,
    /// The longest one, in ms; not below the first.
    pub backoff_max_ms: u64,
    /// Failures within the window behind which a unit is started again; one more opens the breaker. From 1 on.
    pub attempts_max: u32,
    /// The window, in ms.
    pub window_ms: u64,
}

impl OnFailure {
    /// What a connector asks for; `None`: nothing is started again by itself. An error where the settings cannot be right, as those that another program wrote.
    pub fn from_props(props: &Props) -> Result<Option<OnFailure>, ConnectError> {
        let parsed = definition().parse(props)?;
        if parsed.string(POLICY) != ON_FAILURE {
            return Ok(None);
        }
        // All of them are positive by their definitions.
        let ms = |name: &str| parsed.long(name).unsigned_abs();
        let policy = OnFailure {
            backoff_initial_ms: ms(BACKOFF_INITIAL),
            backoff_max_ms: ms(BACKOFF_MAX),
            attempts_max: parsed.int(ATTEMPTS_MAX).unsigned_abs(),
            window_ms: ms(WINDOW),
        };
        match wrong_order(policy.backoff_initial_ms, policy.backoff_max_ms) {
            Some(why) => Err(ConnectError::config(format!("{BACKOFF_MAX}: {why}"))),
            None => Ok(Some(policy)),
        }
    }
}

fn wrong_order(initial_ms: u64, max_ms: u64) -> Option<String> {
    (initial_ms > max_ms).then(|| format!("the longest back-off, {max_ms} ms, is below the first, {initial_ms} ms"))
}

/// The settings. With their defaults a target that is away for 44 minutes opens no breaker, and one that never comes back opens it after 89.
pub fn definition() -> ConfigDef {
    let key = |name, setting_type, documentation| ConfigKey::new(name, setting_type, Importance::Medium, documentation);
    ConfigDef::new()
        .define(
            key(POLICY, Type::String, "Whether a connector or task that failed is started again by itself.")
                .default_value("never")
                .validator(Validator::one_of(&["never", ON_FAILURE]))
                .group(GROUP, 1, Width::Short, "Restart policy"),
        )
        .define(
            key(BACKOFF_INITIAL, Type::Long, "How many milliseconds pass before the first restart; doubled each time.")
                .default_value(1000)
                .validator(Validator::between(BACKOFF_LEAST_MS, BACKOFF_MOST_MS))
                .group(GROUP, 2, Width::Medium, "First back-off"),
        )
        .define(
            key(BACKOFF_MAX, Type::Long, "How many milliseconds pass before a restart at most.")
                .default_value(300_000)
                .validator(Validator::between(BACKOFF_LEAST_MS, BACKOFF_MOST_MS))
                .group(GROUP, 3, Width::Medium, "Longest back-off"),
        )
        .define(
            key(ATTEMPTS_MAX, Type::Int, "So many failures within the window are followed by a restart, and no more.")
                .default_value(25)
                .validator(Validator::between(1, ATTEMPTS_MOST))
                .group(GROUP, 4, Width::Short, "Most restarts"),
        )
        .define(
            key(WINDOW, Type::Long, "The window, in milliseconds, in which failures are counted.")
                .default_value(7_200_000)
                .validator(Validator::between(BACKOFF_LEAST_MS, WINDOW_MOST_MS))
                .group(GROUP, 5, Width::Medium, "Window of failures"),
        )
}

/// Shows those that are set, with what is wrong with them.
pub(super) fn check(checked: &mut Checked, props: &Props) {
    let definition = definition();
    let values: Vec<_> =
        definition.validate(props).into_iter().filter(|value| props.contains_key(&value.name)).collect();
    if values.is_empty() {
        return;
    }
    // What is not set is at its default, which is right.
    let is_good = values.iter().all(|value| value.errors.is_empty());
    checked.add(&definition, values);
    if is_good {
        let ms = |name: &str| {
            let text = props.get(name).cloned().or_else(|| definition.key(name)?.default_text());
            text.and_then(|text| text.trim().parse().ok())
        };
        if let (Some(initial), Some(max)) = (ms(BACKOFF_INITIAL), ms(BACKOFF_MAX))
            && let Some(why) = wrong_order(initial, max)
        {
            checked.error(if props.contains_key(BACKOFF_MAX) { BACKOFF_MAX } else { BACKOFF_INITIAL }, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(settings: &[(&str, &str)]) -> super::super::ConfigInfos {
        let mut checked = Checked::default();
        check(&mut checked, &props(settings));
        checked.into_infos(String::new())
    }

    fn props(pairs: &[(&str, &str)]) -> Props {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn nothing_is_asked_for_by_default() {
        for none in [&[][..], &[("restart.policy", "never")], &[("restart.max.attempts", "5")]] {
            assert_eq!(OnFailure::from_props(&props(none)).unwrap(), None);
        }
        let on = OnFailure::from_props(&props(&[("restart.policy", " on-failure ")])).unwrap();
        let expected =
            OnFailure { backoff_initial_ms: 1000, backoff_max_ms: 300_000, attempts_max: 25, window_ms: 7_200_000 };
        assert_eq!(on, Some(expected));
    }

    #[test]
    fn what_cannot_be_right_is_an_error_of_its_setting() {
        let on = ("restart.policy", "on-failure");
        for (settings, wrong) in [
            (&[("restart.policy", "always")][..], "restart.policy"),
            (&[("restart.policy", "")], "restart.policy"),
            (&[on, ("restart.backoff.initial.ms", "99")], "restart.backoff.initial.ms"),
            (&[on, ("restart.backoff.initial.ms", "x")], "restart.backoff.initial.ms"),
            (&[on, ("restart.backoff.initial.ms", "300001")], "restart.backoff.initial.ms"),
            (&[on, ("restart.backoff.initial.ms", "500"), ("restart.backoff.max.ms", "400")], "restart.backoff.max.ms"),
            (&[on, ("restart.backoff.max.ms", "86400001")], "restart.backoff.max.ms"),
            (&[on, ("restart.max.attempts", "0")], "restart.max.attempts"),
            (&[on, ("restart.max.attempts", "1001")], "restart.max.attempts"),
            (&[on, ("restart.window.ms", "604800001")], "restart.window.ms"),
            (&[on, ("restart.window.ms", "-1")], "restart.window.ms"),
        ] {
            assert!(OnFailure::from_props(&props(settings)).is_err(), "{settings:?}");
            let infos = checked(settings);
            let found = infos.configs.iter().filter(|info| !info.value.errors.is_empty());
            let found: Vec<&str> = found.map(|info| &*info.value.name).collect();
            assert_eq!(found, [wrong], "{settings:?}");
        }
    }

    /// Java's definitions are shown as they were recorded, by whoever asks for nothing else.
    #[test]
    fn only_what_is_set_is_shown() {
        let shown = |settings| {
            let infos = checked(settings);
            let names: Vec<String> = infos.configs.into_iter().map(|info| info.value.name).collect();
            (names.join(" "), infos.groups)
        };
        assert_eq!(shown(&[("name", "a")]), (String::new(), vec![]));
        let both = shown(&[("restart.policy", "never"), ("restart.window.ms", "1000")]);
        assert_eq!(both, ("restart.policy restart.window.ms".into(), vec![GROUP.to_owned()]));
    }
}
