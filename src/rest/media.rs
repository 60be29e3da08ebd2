//! What a client sends and accepts: Content-Type, Content-Encoding and Accept.

use warp::http::{HeaderMap, StatusCode, header};

use super::error::ApiError;

/// The only media type of the API.
pub(super) const JSON: &str = "application/json";

/// Refuses a body type other than JSON (415) and one that is no media type at all (400); says whether a type was given.
/// Parameters and letter case do not matter. Applies to every endpoint, also to those without a body, as in Java.
pub(super) fn check_content_type(headers: &HeaderMap) -> Result<bool, ApiError> {
    if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
        && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
    {
        let encoding = String::from_utf8_lossy(encoding.as_bytes());
        return Err(ApiError::unsupported_media_type(format!(
            "a body with Content-Encoding {encoding} is not accepted; send it uncompressed"
        )));
    }
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(false) };
    let value = String::from_utf8_lossy(value.as_bytes());
    let essence = essence(&value);
    if essence.eq_ignore_ascii_case(JSON) {
        return Ok(true);
    }
    match essence.split_once('/') {
        Some((kind, subtype)) if !kind.is_empty() && !subtype.is_empty() => {
            Err(ApiError::unsupported_media_type(format!("Content-Type {value} is not accepted; send {JSON}")))
        }
        _ => Err(ApiError::bad_request(format!("Content-Type {value:?} is no media type; send {JSON}"))),
    }
}

/// A body needs a Content-Type.
pub(super) fn missing_content_type() -> ApiError {
    ApiError::unsupported_media_type(format!("the body has no Content-Type; send {JSON}"))
}

/// Refuses a client that takes no JSON (406). No Accept header takes everything; `q=0` takes nothing.
pub(super) fn check_accept(headers: &HeaderMap) -> Result<(), ApiError> {
    let mut ranges = headers.get_all(header::ACCEPT).iter().peekable();
    if ranges.peek().is_none() || ranges.any(|value| accepts_json(&String::from_utf8_lossy(value.as_bytes()))) {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::NOT_ACCEPTABLE,
        format!("answers are {JSON}, which the Accept header does not admit"),
    ))
}

fn accepts_json(accept: &str) -> bool {
    let admits =
        |range: &str| ["*", "*/*", "application/*", JSON].iter().any(|known| range.eq_ignore_ascii_case(known));
    // Java sends `*; q=.2`
    let refuses = |parameter: &str| {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        key.trim().eq_ignore_ascii_case("q") && value.trim().parse::<f32>().is_ok_and(|q| q <= 0.0)
    };
    accept.trim().is_empty()
        || accept.split(',').any(|range| admits(essence(range)) && !range.split(';').skip(1).any(refuses))
}

fn essence(value: &str) -> &str {
    value.split(';').next().unwrap_or(value).trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(value: &str) -> Result<bool, u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, value.parse().unwrap());
        check_content_type(&headers).map_err(|error| error.status.as_u16())
    }

    #[test]
    fn only_json_is_read() {
        assert_eq!(check_content_type(&HeaderMap::new()), Ok(false));
        assert_eq!(content("application/json"), Ok(true));
        assert_eq!(content("APPLICATION/JSON ; charset=utf-8"), Ok(true));
        assert_eq!(content("text/plain"), Err(415));
        assert_eq!(content("application/x-www-form-urlencoded"), Err(415));
        assert_eq!(content("application/jsonx"), Err(415));
        assert_eq!(content("bogus"), Err(400));
        assert_eq!(content("/json"), Err(400));
        assert_eq!(content(""), Err(400));
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_ENCODING, "gzip".parse().unwrap());
        assert_eq!(check_content_type(&headers).unwrap_err().status.as_u16(), 415);
    }

    #[test]
    fn only_json_is_written() {
        assert_eq!(check_accept(&HeaderMap::new()), Ok(()));
        for (accept, accepted) in [
            ("*/*", true),
            ("", true),
            ("text/html, image/gif, *; q=.2", true),
            ("application/*;q=0.1", true),
            ("Application/JSON", true),
            ("text/plain, application/json;version=1", true),
            ("text/plain", false),
            ("bogus", false),
            ("application/json;q=0", false),
            ("application/json; q=0.0, text/html", false),
        ] {
            assert_eq!(accepts_json(accept), accepted, "{accept}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, "text/html".parse().unwrap());
        assert_eq!(check_accept(&headers).unwrap_err().status.as_u16(), 406);
        headers.append(header::ACCEPT, "application/json".parse().unwrap());
        assert_eq!(check_accept(&headers), Ok(()));
    }
}
