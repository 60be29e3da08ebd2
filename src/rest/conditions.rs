//! Conditional requests (RFC 9110, 13): a configuration's ETag, and what `If-Match` and `If-None-Match` demand of it.

use warp::http::{HeaderMap, HeaderName, HeaderValue, header};
use warp::reply::Response;

use super::error::ApiError;
use crate::actors::handle::{Precondition, Versions};

/// How much of a header that is refused is repeated in the answer.
const SHOWN_CHARS_MAX: usize = 80;

/// The answer with the ETag of a configuration: its version in double quotes.
pub(super) fn with_etag(mut response: Response, version: i64) -> Response {
    // Digits and quotes can stand in a header.
    if let Ok(tag) = HeaderValue::try_from(format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// What a request demands that replaces a configuration, or creates it.
pub(super) fn of_put(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    let absent = match tags(headers, header::IF_NONE_MATCH)? {
        None => false,
        Some(Versions::Any) => true,
        Some(Versions::OneOf(_)) => {
            let message = "If-None-Match can be * alone, which creates a connector and never replaces one";
            return Err(ApiError::bad_request(message));
        }
    };
    Ok(Precondition { present: tags(headers, header::IF_MATCH)?, absent })
}

/// What a request demands that changes or deletes what is there.
pub(super) fn of_change(headers: &HeaderMap) -> Result<Precondition, ApiError> {
    if headers.contains_key(header::IF_NONE_MATCH) {
        return Err(ApiError::bad_request("If-None-Match means nothing here, where the connector has to exist"));
    }
    Ok(Precondition { present: tags(headers, header::IF_MATCH)?, absent: false })
}

/// The tags of all headers of this name. Tags that cannot be ours, weak ones among them, are well-formed and match nothing. How many there
/// may be is bounded by the head of the request.
fn tags(headers: &HeaderMap, name: HeaderName) -> Result<Option<Versions>, ApiError> {
    let lines: Vec<&[u8]> = headers.get_all(&name).iter().map(|line| line.as_bytes().trim_ascii()).collect();
    match lines[..] {
        [] => return Ok(None),
        [b"*"] => return Ok(Some(Versions::Any)),
        _ => {}
    }
    let mut versions = Vec::new();
    let mut count = 0_usize;
    for line in &lines {
        let mut rest = *line;
        while let Some(tag) = next_tag(&mut rest).map_err(|what| refused(&name, line, what))? {
            count += 1;
            versions.extend(tag);
        }
    }
    if count == 0 {
        return Err(refused(&name, b"", "names no tag"));
    }
    Ok(Some(Versions::OneOf(versions)))
}

fn refused(name: &HeaderName, line: &[u8], what: &str) -> ApiError {
    let line: String = String::from_utf8_lossy(line).chars().take(SHOWN_CHARS_MAX).collect();
    ApiError::bad_request(format!(
        r#"the header {name} {what}: {line:?}; it has * or tags in double quotes, as in "12", "15""#
    ))
}

/// Takes the next tag off a list: the version that it names, where that is one of ours.
fn next_tag(list: &mut &[u8]) -> Result<Option<Option<i64>>, &'static str> {
    // An empty place in a list is none.
    while let [b' ' | b'\t' | b',', rest @ ..] = *list {
        *list = rest;
    }
    let (weak, quoted) = match *list {
        [] => return Ok(None),
        [b'W', b'/', b'"', quoted @ ..] => (true, quoted),
        [b'"', quoted @ ..] => (false, quoted),
        [b'*', ..] => return Err("has * beside other tags"),
        _ => return Err("has a tag that does not begin with a double quote"),
    };
    let Some(end) = quoted.iter().position(|byte| !matches!(byte, 0x21 | 0x23..=0x7e | 0x80..)) else {
        return Err("has a tag without a closing double quote");
    };
    if quoted[end] != b'"' {
        return Err("has a tag with a blank or control character in it");
    }
    let after = quoted[end + 1..].trim_ascii_start();
    if !matches!(after, [] | [b',', ..]) {
        return Err("has no comma between two tags");
    }
    *list = after;
    Ok(Some(version(&quoted[..end]).filter(|_| !weak)))
}

/// The version that the text between the quotes names, written as we write it.
fn version(text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    text.parse::<i64>().ok().filter(|version| version.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &HeaderName, lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(name.clone(), HeaderValue::from_bytes(line).unwrap());
        }
        headers
    }

    fn if_match(lines: &[&[u8]]) -> Result<Option<Versions>, String> {
        let headers = headers(&header::IF_MATCH, lines);
        let found = of_put(&headers).map(|condition| condition.present);
        assert_eq!(found, of_change(&headers).map(|condition| condition.present));
        found.map_err(|error| {
            assert_eq!(error.status.as_u16(), 400);
            error.message
        })
    }

    #[test]
    fn tags_name_versions() {
        let versions = |versions: &[i64]| Ok(Some(Versions::OneOf(versions.to_vec())));
        assert_eq!(if_match(&[]), Ok(None));
        for any in [&b"*"[..], b" * ", b"*\t"] {
            assert_eq!(if_match(&[any]), Ok(Some(Versions::Any)));
        }
        assert_eq!(if_match(&[b"\"12\""]), versions(&[12]));
        assert_eq!(if_match(&[b" , \"1\",\t\"2\" ,,\"3\","]), versions(&[1, 2, 3]));
        assert_eq!(if_match(&[b"\"1\"", b"\"2\",\"3\""]), versions(&[1, 2, 3]));
        assert_eq!(if_match(&[b"W/\"1\", \"2\""]), versions(&[2]), "a weak tag never matches");
        for foreign in [
            &b"\"\""[..],
            b"\"abc\"",
            b"\"01\"",
            b"\"+1\"",
            b"\"1.0\"",
            b"\"9223372036854775808\"",
            b"\"a,b\"",
            b"\"*\"",
            b"\"\xff\xfe\"",
            b"\"\xef\xbc\x91\"",
            b"W/\"1\"",
        ] {
            assert_eq!(if_match(&[foreign]), versions(&[]), "{}", String::from_utf8_lossy(foreign));
        }
    }

    #[test]
    fn what_is_no_list_of_tags_is_refused_with_what_is_wrong() {
        for (lines, part) in [
            (&[&b""[..]][..], "names no tag"),
            (&[b" , ,"], "names no tag"),
            (&[b"", b""], "names no tag"),
            (&[b"12"], "double quote"),
            (&[b"'12'"], "double quote"),
            (&[b"w/\"12\""], "double quote"),
            (&[b"W/12"], "double quote"),
            (&[b"W/ \"12\""], "double quote"),
            (&[b"\"12"], "closing"),
            (&[b"\""], "closing"),
            (&[b"\"1 2\""], "blank"),
            (&[b"\"1\t2\""], "blank"),
            (&[b"\"1\" \"2\""], "no comma"),
            (&[b"\"1\"2"], "no comma"),
            (&[b"*, \"1\""], "*"),
            (&[b"\"1\", *"], "*"),
            (&[b"*", b"*"], "*"),
            (&[b"**"], "*"),
            (&[b"\"1\"", b"2"], "double quote"),
        ] {
            let message = if_match(lines).unwrap_err();
            assert!(message.contains("if-match") && message.contains(part), "{lines:?}: {message}");
        }
    }

    #[test]
    fn if_none_match_creates_and_does_nothing_else() {
        let condition = |line: &[u8]| {
            let headers = headers(&header::IF_NONE_MATCH, &[line]);
            assert_eq!(of_change(&headers).unwrap_err().status.as_u16(), 400);
            of_put(&headers).map_err(|error| error.status.as_u16())
        };
        assert_eq!(condition(b"*"), Ok(Precondition { present: None, absent: true }));
        assert_eq!(condition(b"\"1\""), Err(400));
        assert_eq!(condition(b"1"), Err(400));
        let mut both = headers(&header::IF_NONE_MATCH, &[b"*"]);
        both.insert(header::IF_MATCH, HeaderValue::from_static("\"1\""));
        let one = Some(Versions::OneOf(vec![1]));
        assert_eq!(of_put(&both), Ok(Precondition { present: one, absent: true }));
    }

    proptest::proptest! {
        #[test]
        fn no_header_panics(line in proptest::collection::vec(0x20_u8..=0xff, 0..40)) {
            if let Ok(line) = HeaderValue::from_bytes(&line) {
                let mut headers = HeaderMap::new();
                headers.insert(header::IF_MATCH, line);
                drop(of_change(&headers));
            }
        }
    }
}
