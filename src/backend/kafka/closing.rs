//! Clients whose end nobody has to wait for.

use std::ops::{Deref, DerefMut};

/// Frees what it holds on a thread of its own: freeing a client waits for its threads, which no caller here has time for.
pub(super) struct Closing<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Closing<T> {
    pub(super) fn new(client: T) -> Closing<T> {
        Closing(Some(client))
    }
}

impl<T: Send + 'static> Deref for Closing<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("only the drop takes it out")
    }
}

impl<T: Send + 'static> DerefMut for Closing<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("only the drop takes it out")
    }
}

impl<T: Send + 'static> Drop for Closing<T> {
    fn drop(&mut self) {
        let client = self.0.take();
        // Where no thread can be had it is freed in place.
        if let Err(error) = std::thread::Builder::new().name("kafka-close".into()).spawn(move || drop(client)) {
            tracing::debug!("no thread to close a client: {error}");
        }
    }
}
