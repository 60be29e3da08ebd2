//! One error type for all callbacks; its kind decides what the runtime does.

use std::error::Error;
use std::fmt;

/// What callbacks return.
pub type Result<T> = std::result::Result<T, ConnectError>;

/// What the runtime does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The same call may succeed later. `put` is called again with the same batch, `poll` is called again, a
    /// conversion or transformation is retried within `errors.retry.timeout`. (Java: `RetriableException`.)
    Retriable,
    /// A setting is wrong; nothing will help but another configuration. (Java: `ConfigException`.)
    Config,
    /// A record does not have the form that the code needs. (Java: `DataException` and its subclasses.)
    Data,
    /// Anything else: the task or connector fails and stays failed until it is restarted. (Java: `ConnectException`.)
    Fatal,
}

/// An error of a plug-in callback: what was wrong, in one sentence, and optionally what caused it.
#[derive(Debug)]
pub struct ConnectError {
    kind: ErrorKind,
    message: String,
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl ConnectError {
    /// An error of the given kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        ConnectError { kind, message: message.into(), source: None }
    }

    /// See [`ErrorKind::Retriable`].
    pub fn retriable(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Retriable, message)
    }

    /// See [`ErrorKind::Config`].
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// See [`ErrorKind::Data`].
    pub fn data(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Data, message)
    }

    /// See [`ErrorKind::Fatal`].
    pub fn fatal(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Fatal, message)
    }

    /// The same error with what caused it, which shows in the trace.
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// What the runtime does about it.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence without its causes.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// Whether the same call may succeed later.
    pub fn is_retriable(&self) -> bool {
        self.kind == ErrorKind::Retriable
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for ConnectError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn Error + 'static))
    }
}
