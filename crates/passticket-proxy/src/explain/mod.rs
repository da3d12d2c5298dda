//! `explain`: says what the gateway would do with a request, and why.
//!
//! The request goes through the layers of the gateway (`routed_stack`), with [probes](probe) between them. In place of
//! the service, a server in this process takes the request ([`capture`]). The explanation shows what the layers have
//! decided. The command changes no file, and asks a server only with `--live`.

mod capture;
mod checks;
mod describe;
mod facts;
mod mask;
mod past;
mod probe;
mod report;
mod request;
mod sections;
mod token_text;
mod walk;
mod words;

use std::{path::Path, sync::Arc};

use passticket_proxy::{
    config::{Config, OutboundConnections},
    explained::{Asked, Subject},
};
use tower_passticket::revocation::DurableStore;

use self::{
    describe::{Verdict, describe},
    facts::Facts,
    report::{Report, print_json, print_wrapped, printable},
    request::prepare,
    walk::{NotAsked, walk},
};
use crate::{
    caching_service,
    discovery::Discovery,
    exit::Exit,
    loading, serve,
    stack::{self, Kept, Stores},
    stopped_tickets,
    takeover::HandOver,
};

/// Explains a request with the zowe.yaml `file`.
pub(crate) fn explain(file: &Path, subject: Subject, as_json: bool) -> Result<(), Exit> {
    let mut config = loading::load_quietly(file)?.config;
    match subject {
        Subject::Past(id) => past::explain(&config, &id, as_json),
        Subject::Request(asked) => {
            let not_asked = NotAsked::default();
            if !asked.is_live {
                let seen = not_asked.clone();
                config.outbound = OutboundConnections::refused(move |uri| seen.add(uri));
            }
            let (report, verdict) =
                serve::runtime()?.block_on(explain_request(&config, *asked, &not_asked))?;
            if as_json {
                print_json(&report.json());
            } else {
                print_wrapped("", &printable(&verdict.text));
                report.print();
            }
            match verdict.is_positive {
                true => Ok(()),
                false => Err(Exit::Explained),
            }
        }
    }
}

async fn explain_request(
    config: &Config,
    asked: Asked,
    not_asked: &NotAsked,
) -> Result<(Report, Verdict), Exit> {
    let is_live = asked.is_live;
    let parts = stack::parts(config, None).map_err(Exit::usage)?;
    let store = DurableStore::snapshot(&config.revocations).map_err(Exit::usage)?;
    let store = Arc::new(store);
    let zowe = match is_live {
        true => caching_service::prepared_to_read(config).await?,
        false => None,
    };
    if is_live {
        parts.start_tasks();
    }
    let stores = Stores {
        revocations: store.clone(),
        cluster: None,
        audit: None,
        uses: Arc::default(),
        zowe,
    };
    let breaker = stopped_tickets::breaker(config);
    let (hand, discovery) = (HandOver::default(), Discovery::default());
    let kept = Kept::new(stores, None, config, &parts, hand, discovery, breaker);
    let kept = kept.for_one_request(config);
    let prepared = prepare(config, &parts, asked)?;
    let (walked, authenticator) =
        walk(config, &parts, &kept, prepared.request(), not_asked).await?;
    let mut report = Report::default();
    let verdict = describe(
        &Facts {
            config,
            authenticator: &authenticator,
            store: &store,
            prepared: &prepared,
            walked: &walked,
            is_live,
        },
        &mut report,
    );
    Ok((report, verdict))
}
