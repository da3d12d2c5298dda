//! The access log has one line for each request. The line is written when the request has ended. It contains the user,
//! the method and the path, the instance that answered, the time of each step, and how the request ended.
//!
//! [`AccessLogLayer`] is the outermost layer of a stack. It puts a [`RequestFacts`](crate::request_facts::RequestFacts)
//! into the request, and the inner layers record their facts there. [`AccessLog`] writes the lines to a file.
//!
//! # What a line contains
//!
//! A line contains no query. It contains these values of headers: `User-Agent`, `Referer` without its query, and the
//! user id in a credential. If a trusted proxy sends the request, the line also contains `X-Request-Id` and the address
//! of the proxy's client. A segment of a path that may contain a token is written as `(token)`. So a line contains no
//! credential from a header or a query. A client cannot forge a line, because all control characters are escaped or
//! replaced. The page "Access log" of the book describes each field.
//!
//! # When a line is written
//! | request | event after which the line is written |
//! |---|---|
//! | with a response | the last byte of the body was passed to the connection of the client, or the body was aborted |
//! | without a response | the client has disconnected, or the inner service has returned an error |
//! | WebSocket | the tunnel has ended |
//!
//! ```
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tower::{Layer, ServiceExt, service_fn};
//! use tower_passticket::access_log::{AccessLog, AccessLogLayer, AccessLogOptions};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let directory = tempfile::tempdir()?;
//! # let path = directory.path().join("access.jsonl");
//! let log = AccessLog::open(&path, AccessLogOptions::default())?;
//! let hello = service_fn(async |_: Request<Full<Bytes>>| {
//!     Ok::<_, std::convert::Infallible>(Response::new(Full::<Bytes>::from("hello")))
//! });
//! let service = AccessLogLayer::new(log.clone()).layer(hello);
//!
//! let request = Request::get("/files/x?password=secret").body(Full::default())?;
//! let response = service.oneshot(request).await?;
//! response.into_body().collect().await?;
//!
//! log.close();
//! let line = std::fs::read_to_string(&path)?;
//! assert!(line.contains(r#""method":"GET","path":"/files/x","#), "{line}");
//! assert!(line.contains(r#""status":200,"#) && line.contains(r#""bytes_out":5,"#), "{line}");
//! assert!(!line.contains("secret"));
//! # Ok(())
//! # }
//! ```

mod client_text;
mod entry;
mod file;
mod layer;
mod line;
mod options;
mod state;
#[cfg(test)]
mod tests;
mod writer;

pub use file::{AccessLog, AccessLogError};
#[cfg(feature = "tls")]
pub(crate) use layer::log_refused;
pub use layer::{AccessLogFuture, AccessLogLayer, AccessLogService, LoggedBody};
pub use options::{AccessLogFormat, AccessLogOptions};
