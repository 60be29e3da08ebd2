//! Reads the target of a request: path segments and query parameters.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::error::ApiError;

/// What stays as it is in a path segment: `pchar` of RFC 3986, as in Java's `UriBuilder`, but for the semicolon, which
/// would begin a matrix parameter and make the rest of the name unreachable.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'=')
    .remove(b':')
    .remove(b'@');

/// A name as one segment of a path.
pub(super) fn encode_segment(name: &str) -> String {
    utf8_percent_encode(name, SEGMENT).to_string()
}

/// Splits a path into its decoded segments. One trailing slash is ignored, matrix parameters (`;a=b`) are cut off,
/// literal `.` and `..` are plain names. Refused as in Java's HTTP layer: empty segments, and in encoded form slash,
/// percent, backslash, control characters, `.` and `..`, since proxies disagree about them.
pub(super) fn segments(path: &str) -> Result<Vec<String>, ApiError> {
    let inner = path.strip_prefix('/').unwrap_or(path);
    let inner = inner.strip_suffix('/').unwrap_or(inner);
    if inner.is_empty() {
        // "//" is an empty segment and a trailing slash
        return if path.len() > 1 { Err(refused(path, "an empty segment")) } else { Ok(Vec::new()) };
    }
    inner.split('/').map(|raw| segment(path, raw)).collect()
}

fn segment(path: &str, raw: &str) -> Result<String, ApiError> {
    let raw = raw.split(';').next().unwrap_or(raw);
    if raw.is_empty() {
        return Err(refused(path, "an empty segment"));
    }
    let bytes = raw.as_bytes();
    for at in (0..bytes.len()).filter(|&at| bytes[at] == b'%') {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match hex.filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit())).and_then(|h| u8::from_str_radix(h, 16).ok())
        {
            None => return Err(refused(path, "a percent sign that is not followed by two hex digits")),
            Some(b'/' | b'\\' | b'%') => return Err(refused(path, "an encoded slash, backslash or percent sign")),
            Some(0..=0x1f | 0x7f) => return Err(refused(path, "an encoded control character")),
            Some(_) => {}
        }
    }
    let name =
        percent_decode_str(raw).decode_utf8().map_err(|_| refused(path, "a segment that is not UTF-8"))?.into_owned();
    if (name == "." || name == "..") && name != raw {
        return Err(refused(path, "an encoded dot segment"));
    }
    Ok(name)
}

fn refused(path: &str, what: &str) -> ApiError {
    ApiError::bad_request(format!("the path {path} has {what}"))
}

/// Query parameters in their order, decoded as HTML forms encode them.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    pub(super) fn parse(query: &str) -> Self {
        let decode = |text: &str| percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Query(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// All values of a parameter; a bare key has the empty value.
    pub(super) fn all<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(k, _)| k == key).map(|(_, v)| v.as_str())
    }

    /// The first value as Java reads a `boolean`: `true` in any letter case; anything else is false; absent or empty is
    /// the default.
    pub(super) fn flag(&self, key: &str, default: bool) -> bool {
        match self.all(key).next() {
            None | Some("") => default,
            Some(value) => value.eq_ignore_ascii_case("true"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, expected: Result<&[&str], &str>) {
        match (segments(path), expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{path}"),
            (Err(error), Err(part)) => {
                assert_eq!(error.status.as_u16(), 400);
                assert!(error.message.contains(part), "{path}: {}", error.message);
            }
            (found, expected) => panic!("{path}: {found:?} instead of {expected:?}"),
        }
    }

    #[test]
    fn segments_are_decoded_and_nothing_else() {
        check("/", Ok(&[]));
        check("", Ok(&[]));
        check("/connectors", Ok(&["connectors"]));
        check("/connectors/", Ok(&["connectors"]));
        check("/connectors/a%20b/config", Ok(&["connectors", "a b", "config"]));
        check("/connectors/a+b", Ok(&["connectors", "a+b"]));
        check("/connectors/a%2Bb%2bc", Ok(&["connectors", "a+b+c"]));
        check("/connectors/%C3%bcn", Ok(&["connectors", "\u{fc}n"]));
        check("/connectors/a%3Fb", Ok(&["connectors", "a?b"]));
        check("/connectors/%20a%20", Ok(&["connectors", " a "]));
        check("/connectors;a=b", Ok(&["connectors"]));
        check("/connectors/a;x=y/status", Ok(&["connectors", "a", "status"]));
        check("/connectors/a%3Bb", Ok(&["connectors", "a;b"]));
        check("/connectors/../x", Ok(&["connectors", "..", "x"]));
        check("/connectors/%2e%2ex", Ok(&["connectors", "..x"]));
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        check("//", Err("an empty segment"));
        check("/connectors//", Err("an empty segment"));
        check("/connectors//a", Err("an empty segment"));
        check("//connectors", Err("an empty segment"));
        check("/connectors/;a=b", Err("an empty segment"));
        check("/connectors/a%2Fb", Err("an encoded slash"));
        check("/connectors/a%2fb", Err("an encoded slash"));
        check("/connectors/a%5Cb", Err("an encoded slash"));
        check("/connectors/a%25b", Err("an encoded slash"));
        check("/connectors/a%00b", Err("an encoded control"));
        check("/connectors/a%0Ab", Err("an encoded control"));
        check("/connectors/a%7fb", Err("an encoded control"));
        check("/connectors/a%2", Err("two hex digits"));
        check("/connectors/a%", Err("two hex digits"));
        check("/connectors/a%zz", Err("two hex digits"));
        check("/connectors/a%+1", Err("two hex digits"));
        check("/connectors/a%\u{fc}", Err("two hex digits"));
        check("/connectors/%ff", Err("not UTF-8"));
        check("/connectors/%2e%2e", Err("an encoded dot"));
        check("/connectors/.%2E/x", Err("an encoded dot"));
    }

    #[test]
    fn encoded_segments_decode_to_themselves() {
        for name in ["a", "a b", "\u{fc}n\u{ef}", "a+b", "a?b", "a#b", "a&b=c", "a;b", "\u{1f980}", "a'(b)*,!~$:@"] {
            let path = format!("/connectors/{}", encode_segment(name));
            assert_eq!(segments(&path).unwrap(), ["connectors", name]);
        }
        assert_eq!(encode_segment("a b/\u{fc}?#&=+;"), "a%20b%2F%C3%BC%3F%23&=+%3B");
    }

    #[test]
    fn flags_follow_java() {
        let flag = |query: &str, default| Query::parse(query).flag("x", default);
        assert!(flag("x=true", false) && flag("x=TrUe", false) && flag("y=1&x=%74rue", false));
        assert!(!flag("x=1", true) && !flag("x=yes", true) && !flag("x=false", true) && !flag("x=true%20", true));
        assert!(flag("", true) && flag("x", true) && flag("x=", true) && flag("X=false", true));
        assert!(!flag("", false) && !flag("x=", false));
        assert!(flag("x=true&x=false", false));
        assert_eq!(Query::parse("e=a+b&e&f=1&e=c%26").all("e").collect::<Vec<_>>(), ["a b", "", "c&"]);
    }

    proptest::proptest! {
        #[test]
        fn no_path_or_query_panics(path in "\\PC{0,40}", query in "[\\PC%&=+]{0,40}") {
            drop(segments(&path));
            drop(segments(&format!("/{path}")));
            Query::parse(&query).flag("x", true);
        }

        #[test]
        fn accepted_names_can_be_reached_by_their_location(name in "[^/%\\\\\\x00-\\x1f\\x7f]{1,20}") {
            let path = format!("/connectors/{}", encode_segment(&name));
            proptest::prop_assert_eq!(segments(&path).unwrap(), vec!["connectors".to_owned(), name]);
        }
    }
}
