//! Finds the primary of Redis, and connects to it. Sentinel is the program that watches the servers of Redis. With
//! Sentinel, another server can become the primary.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;

use super::{
    connection::{Connection, Login},
    failure::Failure,
    reply,
    settings::{Endpoint, RedisSettings, Source},
};

/// How long a Sentinel may take to answer.
const SENTINEL_LIMIT: Duration = Duration::from_millis(500);

/// A connection to a primary, and the id of the server process.
#[derive(Debug)]
pub(super) struct Primary {
    pub(super) connection: Connection,
    pub(super) run_id: Arc<str>,
    /// The clock of the server in seconds since 1970, when the connection was opened.
    pub(super) opened_at: u64,
}

impl Primary {
    pub(super) fn server(&self) -> Server<'_> {
        Server { run_id: &self.run_id, opened_at: self.opened_at }
    }
}

/// The server that runs a script.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Server<'a> {
    /// The id of the server process. Each start of Redis has a new id.
    pub(crate) run_id: &'a str,
    /// The clock of the server in seconds since 1970, when the connection was opened.
    pub(crate) opened_at: u64,
}

/// Connects to the current primary. First, the requests to Sentinel have the limit `SENTINEL_LIMIT`. Then TCP, TLS, the
/// login and the first commands together may take `limit`.
pub(super) async fn connect(
    place: &Arc<str>,
    settings: &RedisSettings,
    limit: Duration,
) -> Result<Primary, Failure> {
    let endpoint = find(place, settings).await?;
    match timeout(limit, open(place, settings, &endpoint)).await {
        Ok(opened) => opened,
        Err(_) => Err(Failure::unreachable(place, &format!("{endpoint} has not answered in time"))),
    }
}

async fn open(
    place: &Arc<str>,
    settings: &RedisSettings,
    endpoint: &Endpoint,
) -> Result<Primary, Failure> {
    let login = Login {
        user: settings.address.user.as_deref(),
        password: settings.password.as_ref().map(|password| password.as_slice()),
        tls: settings.tls.as_ref(),
    };
    let connection = Connection::open(place, endpoint, login).await?;
    let set_up = async {
        if settings.address.database != 0 {
            connection.command(redis::cmd("SELECT").arg(settings.address.database)).await?;
        }
        let (role, server) = (redis::cmd("ROLE"), connection.info("server"));
        let (role, time) = (connection.command(&role), redis::cmd("TIME"));
        tokio::try_join!(role, server, connection.command(&time))
    };
    let (role, server, time) = set_up.await.map_err(|error| Failure::new(place, &error))?;
    match (&settings.address.source, reply::is_primary(&role)) {
        (_, true) => {}
        (Source::Server(_), false) => {
            let reason =
                format!("{endpoint} is a replica; use the address of the primary, or Sentinel");
            return Err(Failure::refused(place, &reason));
        }
        (Source::Sentinel { .. }, false) => {
            let reason = format!("{endpoint}, which Sentinel names, is not the primary yet");
            return Err(Failure::unreachable(place, &reason));
        }
    }
    let run_id = server.get("run_id").and_then(reply::server_id);
    let (Some(run_id), Some(opened_at)) = (run_id, reply::seconds(&time)) else {
        return Err(Failure::unreachable(
            place,
            &format!("{endpoint} has not returned its run id or its time"),
        ));
    };
    Ok(Primary { connection, run_id, opened_at })
}

/// Returns the address of the current primary. If the Sentinels give different answers, the answer with the highest
/// `config-epoch` counts: it belongs to the latest failover.
pub(super) async fn find(place: &Arc<str>, settings: &RedisSettings) -> Result<Endpoint, Failure> {
    let nodes = match &settings.address.source {
        Source::Server(endpoint) => return Ok(endpoint.clone()),
        Source::Sentinel { nodes, .. } => nodes,
    };
    let (mut newest, mut failure): (Option<reply::SentinelMaster>, Option<Failure>) = (None, None);
    for answer in ask_sentinels(place, settings).await {
        match answer {
            Ok(answer) => {
                if newest.as_ref().is_none_or(|newest| newest.epoch < answer.epoch) {
                    newest = Some(answer);
                }
            }
            Err(error) => failure = Some(error),
        }
    }
    let Some(reply::SentinelMaster { host, port, .. }) = newest else {
        return Err(failure.unwrap_or_else(|| Failure::unreachable(place, "no Sentinel")));
    };
    let is_encrypted = nodes.iter().any(|node| node.is_encrypted);
    Endpoint::new(&host, port, is_encrypted).map_err(|_| {
        let reason = format!(
            "Sentinel names the primary {host}, and the connection to it would not be encrypted"
        );
        Failure::refused(place, &reason)
    })
}

/// Asks all Sentinels for the primary. Returns no answers if no Sentinels are configured.
pub(super) async fn ask_sentinels(
    place: &Arc<str>,
    settings: &RedisSettings,
) -> Vec<Result<reply::SentinelMaster, Failure>> {
    let Source::Sentinel { master, nodes, user } = &settings.address.source else {
        return Vec::new();
    };
    let login = Login {
        user: user.as_deref(),
        password: settings.sentinel_password.as_ref().map(|password| password.as_slice()),
        tls: settings.tls.as_ref(),
    };
    let ask = async |node: &Endpoint| {
        let sentinel = Connection::open(place, node, login).await?;
        let answer = sentinel.command(redis::cmd("SENTINEL").arg("MASTER").arg(&**master)).await;
        let answer = answer.map_err(|error| Failure::new(place, &error))?;
        reply::SentinelMaster::read(&answer).ok_or_else(|| {
            Failure::unreachable(place, &format!("Sentinel {node} names no primary"))
        })
    };
    let limited = async |node| match timeout(SENTINEL_LIMIT, ask(node)).await {
        Ok(answer) => answer,
        Err(_) => {
            Err(Failure::unreachable(place, &format!("Sentinel {node} has not answered in time")))
        }
    };
    futures_join(nodes.iter().map(limited)).await
}

async fn futures_join<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        let mut is_pending = false;
        for (future, output) in &mut waiting {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => is_pending = true,
                }
            }
        }
        if is_pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    waiting.into_iter().filter_map(|(_, output)| output).collect()
}
