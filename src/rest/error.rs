//! The one map from errors to a status, and the body that all errors share.

use serde::Serialize;
use warp::http::{HeaderValue, StatusCode, header};
use warp::reply::Response;

use super::root::json;
use crate::actors::handle::HerderError;

/// An answer that says what went wrong (Java: `ErrorMessage`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ApiError {
    pub(super) status: StatusCode,
    pub(super) message: String,
    /// Whether the rest of the request is left unread, so that the connection cannot be used again.
    pub(super) close: bool,
}

/// What an endpoint returns.
pub(super) type Answer = Result<Response, ApiError>;

impl ApiError {
    pub(super) fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), close: false }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    pub(super) fn unsupported_media_type(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message)
    }

    pub(super) fn closing(self) -> Self {
        ApiError { close: true, ..self }
    }

    /// `{"error_code": .., "message": ..}`; error_code repeats the status.
    pub(super) fn into_response(self) -> Response {
        #[derive(Serialize)]
        struct Body<'a> {
            error_code: u16,
            message: &'a str,
        }
        let mut response = json(self.status, &Body { error_code: self.status.as_u16(), message: &self.message });
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<HerderError> for ApiError {
    fn from(error: HerderError) -> Self {
        let status = match &error {
            HerderError::NotFound(_) => StatusCode::NOT_FOUND,
            HerderError::Forbidden(_) => StatusCode::FORBIDDEN,
            HerderError::BadRequest(_) => StatusCode::BAD_REQUEST,
            HerderError::Conflict(_) => StatusCode::CONFLICT,
            HerderError::PreconditionFailed(_) => StatusCode::PRECONDITION_FAILED,
            HerderError::Busy | HerderError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
            HerderError::Timeout | HerderError::Lost | HerderError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, error.to_string())
    }
}
