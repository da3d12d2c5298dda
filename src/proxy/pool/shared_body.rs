//! The functions of a request's body that the pool needs to send it over HTTP/2.

use hyper::body::Body;

/// A body that hyper sends while the pool keeps a handle to it. With the handle, the body can be sent again or ended.
pub(in crate::proxy) trait SharedBody: Body + Sized {
    /// Returns the body for hyper and the handle.
    fn share(self) -> (Self, Self);

    /// Returns whether hyper has taken a part of the body.
    fn has_begun(&self) -> bool;

    /// Returns whether hyper has taken the whole body, or has dropped it.
    fn has_ended(&self) -> bool;

    /// Returns whether hyper waits until the client sends the next part.
    fn waits_for_client(&self) -> bool;

    /// Returns the number of parts that hyper has taken.
    fn parts(&self) -> u64;

    /// Makes [`rewind`](Self::rewind) impossible, so that no more parts are kept in memory.
    fn forget(&self);

    /// Ends the body that hyper sends, unless hyper has taken the whole body. hyper then resets the stream with the
    /// code `CANCEL`.
    fn cancel(&self);

    /// Returns the body from its start. Returns `None` if hyper has taken parts that were not kept, if the body has
    /// failed, or after [`forget`](Self::forget) or [`cancel`](Self::cancel). If hyper still has the previous body,
    /// that body is cancelled.
    fn rewind(self) -> Option<Self>;
}
