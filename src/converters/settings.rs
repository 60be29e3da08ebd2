//! Settings of converters as Java parses them.

use connect_api::{ConnectError, Props, Result};

/// `true` or `false` in any case, with blanks around.
pub(super) fn boolean(props: &Props, name: &str, default: bool) -> Result<bool> {
    match props.get(name).map(|text| text.trim()) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(other) => Err(ConnectError::config(format!("{name} is '{other}'; it must be true or false"))),
    }
}

/// A 32-bit integer with blanks around.
pub(super) fn int(props: &Props, name: &str, default: i32) -> Result<i32> {
    match props.get(name) {
        None => Ok(default),
        Some(text) => text
            .trim()
            .parse()
            .map_err(|_| ConnectError::config(format!("{name} is '{text}'; it must be a 32-bit integer"))),
    }
}
