//! Reads `.properties` files as `java.util.Properties` does.
//!
//! Our own, since the crate `java-properties` (2.0) differs in 5 of the 119 recorded cases: a last line that ends in a
//! backslash is lost, surrogate pairs in escapes are refused, a byte order mark is skipped, and Latin-1 is read as
//! Windows-1252.

use connect_api::Props;

/// What is wrong with a file, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: \\u must be followed by four hexadecimal digits")]
pub struct PropertiesError {
    /// Counted from 1; where a continued line begins.
    pub line: usize,
}

/// Reads bytes as Java's `Properties.load(InputStream)`: Latin-1, everything else as `\uXXXX`. Worker and connector files are
/// read so.
pub fn from_latin1(bytes: &[u8]) -> Result<Props, PropertiesError> {
    let text: String = bytes.iter().copied().map(char::from).collect();
    from_text(&text)
}

/// Reads text as Java's `Properties.load(Reader)`. A later line wins over an earlier one of the same name. An unpaired
/// surrogate, which Rust's text cannot hold, becomes U+FFFD.
pub fn from_text(text: &str) -> Result<Props, PropertiesError> {
    let mut props = Props::new();
    for (line, logical) in logical_lines(text) {
        let (name, value) = split(&logical);
        let unescaped = |text| unescape(text).ok_or(PropertiesError { line });
        props.insert(unescaped(name)?, unescaped(value)?);
    }
    Ok(props)
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\u{c}')
}

/// Lines without comments and empty ones, continued ones joined, each with the number of its first line.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut continued: Option<(usize, String)> = None;
    for (number, line) in (1..).zip(natural_lines(text)) {
        let line = line.trim_start_matches(is_blank);
        let ignored = line.is_empty() || line.starts_with(['#', '!']);
        // A comment cannot be continued, but within a continued line # is no comment.
        if continued.is_none() && ignored {
            continue;
        }
        let backslashes = line.len() - line.trim_end_matches('\\').len();
        let goes_on = backslashes % 2 == 1;
        let (first, mut logical) = continued.take().unwrap_or_else(|| (number, String::new()));
        logical.push_str(&line[..line.len() - usize::from(goes_on)]);
        match goes_on {
            true => continued = Some((first, logical)),
            false => lines.push((first, logical)),
        }
    }
    lines.extend(continued);
    lines.retain(|(_, line)| !line.is_empty());
    lines
}

fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\n', '\r']) else {
            rest = None;
            return Some(text);
        };
        let behind = &text[end..];
        rest = Some(behind.strip_prefix("\r\n").unwrap_or(&behind[1..]));
        Some(&text[..end])
    })
}

/// The name ends at the first `=`, `:` or blank without a backslash; blanks and one `=` or `:` follow it.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line.char_indices().find(|&(_, c)| {
        let ends = !escaped && (is_blank(c) || c == '=' || c == ':');
        escaped = c == '\\' && !escaped;
        ends
    });
    let Some((end, _)) = end else { return (line, "") };
    let value = line[end..].trim_start_matches(is_blank);
    let value = value.strip_prefix(['=', ':']).unwrap_or(value);
    (&line[..end], value.trim_start_matches(is_blank))
}

fn unescape(text: &str) -> Option<String> {
    // UTF-16, since two escapes may form one character.
    let mut units = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let plain = if c == '\\' {
            match chars.next() {
                Some('u') => {
                    let digits = chars.as_str().get(..4).filter(|four| four.bytes().all(|b| b.is_ascii_hexdigit()))?;
                    units.push(u16::from_str_radix(digits, 16).ok()?);
                    chars.nth(3);
                    continue;
                }
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some(other) => other,
                None => continue,
            }
        } else {
            c
        };
        units.extend_from_slice(plain.encode_utf16(&mut [0; 2]));
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_line() {
        assert_eq!(from_text("a=1\n\nb=\\\n  \\u12g4\n").unwrap_err().line, 3);
        assert_eq!(from_text("a=\\uD83D").map(|props| props["a"].clone()), Ok("\u{fffd}".to_owned()));
    }
}
