//! [`Ui`], the Tower service that answers each request for a page.

mod admin;
mod session;

use std::{
    convert::Infallible,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_LENGTH, HOST, RETRY_AFTER},
    request::Parts,
};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower::BoxError;
use tower_passticket::{
    api::{AuthApi, MAX_BODY_LEN, SharedServices},
    audit::RequestId,
    clock::Clock,
    gateway::AuthPrefix,
    proxy::ResponseBody,
    token::{Scope, Scopes},
};
use tower_service::Service;
use zeroize::Zeroizing;

use super::{
    assets::Asset,
    audit_log::{AuditLog, AuditReader},
    auth_client::{AuthClient, Browser, NewToken, Permissions, Refusal},
    commands::commands_for,
    create_form::{CreateForm, Lifetimes, check_label, fault_of_answer},
    csrf::{self, FormKey},
    fault::Fault,
    form::Form,
    health::HealthDocument,
    list_query::{ListQuery, Sort},
    notice::Notice,
    paths::{AdminPage, Page, Paths, TokenId},
    response::{self, asset, page, redirect, removal_of, set_cookies},
    services::{RoutePaths, Services},
    trouble::{Problem, Trouble},
    views::{self, Area, CreatePage, CreatedPage, Frame, ListPage, ProblemPage},
};

/// The number of tokens on a page of the list.
const PAGE_LEN: usize = 50;

static SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
static SEC_FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// The settings of the pages, and the state of the gateway that they show.
pub(crate) struct UiOptions {
    pub(crate) path: AuthPrefix,
    pub(crate) login_cookie: String,
    /// The services for which users can create tokens.
    pub(crate) services: SharedServices,
    pub(crate) route_paths: RoutePaths,
    pub(crate) max_days: u8,
    /// The scopes that new tokens may have. `None` allows all scopes.
    pub(crate) allowed_scopes: Option<Scopes>,
    pub(crate) can_change_passwords: bool,
    pub(crate) client_certificates: bool,
    pub(crate) audit: AuditLog,
    pub(crate) health: HealthDocument,
    pub(crate) clock: Arc<dyn Clock>,
}

/// The pages. Clones share everything.
#[derive(Clone)]
pub(crate) struct Ui(Arc<Inner>);

struct Inner {
    paths: Paths,
    client: AuthClient,
    audit: AuditReader,
    options: UiOptions,
}

impl Ui {
    /// Creates the pages, which call `api`.
    pub(crate) fn new(api: AuthApi, options: UiOptions) -> Self {
        let client = AuthClient::new(api, &options.login_cookie);
        let (paths, audit) = (Paths::new(options.path.clone()), options.audit.clone());
        let audit = AuditReader::new(audit);
        Self(Arc::new(Inner { paths, client, audit, options }))
    }
}

impl<B> Service<Request<B>> for Ui
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let inner = self.0.clone();
        Box::pin(async move {
            let is_head = request.method() == Method::HEAD;
            let response = inner.answer(request).await;
            Ok(if is_head { without_body(response) } else { response })
        })
    }
}

struct Visit {
    browser: Browser,
    /// The value that each form must contain. It comes from the cookie, or is new.
    key: FormKey,
    /// Whether `key` is new, so that the browser must get it in a cookie.
    is_key_new: bool,
    query: Form,
    request_id: String,
    /// Empty until the auth API has confirmed the login cookie.
    user: OnceLock<String>,
    /// Empty until the auth API has answered.
    permissions: OnceLock<Permissions>,
}

type Answer = Result<Response<ResponseBody>, Trouble>;

impl Inner {
    async fn answer<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        let (parts, body) = request.into_parts();
        let found = self.paths.find(parts.uri.path());
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        if let (Some(Page::Asset(name)), true) = (found, is_read)
            && let Some(found) = Asset::find(name)
        {
            return asset(found);
        }
        let Ok(visit) = self.visit(&parts) else {
            tracing::error!(
                "the system gave no random numbers, so the page cannot protect its forms"
            );
            return response::unavailable();
        };
        if is_read && visit.is_first_from_other_site(&parts.headers) {
            let address = parts
                .uri
                .path_and_query()
                .map_or_else(|| self.paths.to(Page::Home), ToString::to_string);
            return page(StatusCode::OK, views::open_again(self.frame(&visit), &address));
        }
        let answer = match found {
            None | Some(Page::Asset(_)) => Err(Problem::NotFound.into()),
            Some(_) if !is_document(&parts.headers) => Err(Problem::NotADocument.into()),
            Some(found) if is_read => self.show(&visit, found).await,
            Some(found) if parts.method == Method::POST && takes_forms(found) => {
                match read_form(body).await {
                    Ok(form) => self.submit(&visit, found, &form, &parts).await,
                    Err(problem) => Err(problem.into()),
                }
            }
            Some(found) => {
                let mut response = self.problem(&visit, Problem::Method, None);
                let allowed = if takes_forms(found) { "GET, HEAD, POST" } else { "GET, HEAD" };
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
                Ok(response)
            }
        };
        let mut response = answer.unwrap_or_else(|trouble| self.trouble(&visit, trouble));
        // A redirection shows no form, so it needs no key. The redirection after a sign-in sets a new key itself.
        if visit.is_key_new && !response.status().is_redirection() {
            set_cookies(&mut response, [visit.key.set_cookie()]);
        }
        response
    }

    fn visit(&self, parts: &Parts) -> Result<Visit, csrf::NoRandomNumbers> {
        let known = FormKey::of_cookies(&parts.headers);
        let is_key_new = known.is_none();
        let key = known.map_or_else(FormKey::random, Ok)?;
        let query = parts.uri.query().unwrap_or_default();
        let request_id = parts.extensions.get::<RequestId>().map(ToString::to_string);
        Ok(Visit {
            browser: self.client.browser(parts),
            key,
            is_key_new,
            // A query that cannot be read counts as empty.
            query: Form::parse(query.as_bytes()).unwrap_or_default(),
            request_id: request_id.unwrap_or_default(),
            user: OnceLock::new(),
            permissions: OnceLock::new(),
        })
    }

    fn frame<'v>(&'v self, visit: &'v Visit) -> Frame<'v> {
        Frame {
            paths: &self.paths,
            key: &visit.key,
            user: visit.user.get().map(String::as_str),
            permissions: visit.permissions.get().copied().unwrap_or_default(),
            area: Area::Own,
            notice: Notice::of(&visit.query),
        }
    }

    fn services(&self) -> Services {
        let UiOptions { services, route_paths, allowed_scopes, .. } = &self.options;
        Services::current(services, route_paths, allowed_scopes.as_ref())
    }

    fn lifetimes(&self) -> Lifetimes {
        Lifetimes::new(self.options.clock.now(), self.options.max_days)
    }

    async fn sign_in_required(&self, visit: &Visit) -> Result<(), Trouble> {
        if !visit.browser.has_login_cookie() {
            return Err(Trouble::NotSignedIn);
        }
        let session = self.client.session(&visit.browser).await?;
        // The user is set only here, once for each request.
        let _ = visit.user.set(session.user_id);
        Ok(())
    }

    /// Answers GET.
    async fn show(&self, visit: &Visit, found: Page<'_>) -> Answer {
        match found {
            Page::SignIn => {
                let changes = visit.query.get("change") == "1" && self.options.can_change_passwords;
                return Ok(self.sign_in_page(visit, StatusCode::OK, "", changes, None));
            }
            // The addresses of `SignInWithCertificate` and `SignOut` only receive forms, but a user can also type them
            // into the browser. `Home` has no content of its own.
            Page::SignInWithCertificate => return Ok(redirect(&self.paths.to(Page::SignIn))),
            Page::Home | Page::SignOut => return Ok(redirect(&self.paths.to(Page::Tokens))),
            Page::Admin(found) => return self.show_admin(visit, found).await,
            _ => {}
        }
        self.sign_in_required(visit).await?;
        self.learn_permissions(visit).await;
        let (client, browser) = (&self.client, &visit.browser);
        let frame = self.frame(visit);
        let markup = match found {
            Page::Tokens => return self.list(visit).await,
            Page::NewToken => {
                let (services, lifetimes) = (self.services(), self.lifetimes());
                let form = CreateForm::empty(lifetimes);
                views::create(
                    frame,
                    CreatePage { form: &form, faults: &[], services: &services, lifetimes },
                )
            }
            Page::RevokeAll => {
                let filter = ListQuery::of(&Form::default()).filter();
                views::revoke_all(frame, client.all_tokens(browser, &filter).await?.len())
            }
            Page::Token(id) => {
                views::token(frame, &client.token(browser, id).await?, &self.services())
            }
            Page::Edit(id) => {
                let token = client.token(browser, id).await?;
                let name = token.name.as_deref().unwrap_or_default();
                views::edit(frame, id, name, &token.description, &[])
            }
            Page::Rotate(id) => {
                views::rotate(frame, id, &client.token(browser, id).await?, &self.services())
            }
            Page::Revoke(id) => {
                views::revoke(frame, id, &client.token(browser, id).await?, &self.services())
            }
            Page::Home
            | Page::SignIn
            | Page::SignInWithCertificate
            | Page::SignOut
            | Page::Admin(_)
            | Page::Asset(_) => return Err(Problem::NotFound.into()),
        };
        Ok(page(StatusCode::OK, markup))
    }

    async fn list(&self, visit: &Visit) -> Answer {
        let query = ListQuery::of(&visit.query);
        let (filter, browser) = (query.filter(), &visit.browser);
        let listed = if query.sort == Sort::Newest {
            let page = self.client.tokens(browser, &filter, &query.cursor, PAGE_LEN).await;
            page.map(|page| (page.tokens, page.next))
        } else {
            self.client.all_tokens(browser, &filter).await.map(|mut tokens| {
                query.sort.apply(&mut tokens);
                (tokens, None)
            })
        };
        let (tokens, next) = match listed {
            // The cursor of an old bookmark may not be valid any more.
            Err(refusal)
                if refusal.status == StatusCode::BAD_REQUEST && !query.cursor.is_empty() =>
            {
                return Ok(redirect(&self.paths.to(Page::Tokens)));
            }
            listed => listed?,
        };
        let list = ListPage {
            query: &query,
            tokens: &tokens,
            next: next.as_deref(),
            services: &self.services(),
            now: self.options.clock.now(),
        };
        Ok(page(StatusCode::OK, views::tokens(self.frame(visit), list)))
    }

    async fn submit(&self, visit: &Visit, found: Page<'_>, form: &Form, parts: &Parts) -> Answer {
        if visit.is_key_new || !visit.key.matches(form.get(csrf::FIELD)) {
            return Err(Problem::WrongFormKey.into());
        }
        match found {
            Page::SignIn => return self.sign_in(visit, form).await,
            Page::SignInWithCertificate => return self.sign_in_with_certificate(visit).await,
            Page::SignOut => return self.sign_out(visit).await,
            Page::Admin(found) => return self.submit_admin(visit, found, form).await,
            _ => {}
        }
        self.sign_in_required(visit).await?;
        let (client, browser) = (&self.client, &visit.browser);
        let done = match found {
            Page::NewToken => return self.create(visit, form, parts).await,
            Page::Edit(id) => return self.edit(visit, id, form).await,
            Page::Rotate(id) => {
                let grace = form.get("grace").parse().unwrap_or(0);
                let token = client.rotate(browser, id, grace).await?;
                return Ok(self.created(visit, &token, parts));
            }
            Page::Revoke(id) => {
                client.revoke(browser, id).await?;
                Notice::Revoked
            }
            Page::RevokeAll => {
                client.revoke_all(browser).await?;
                Notice::AllRevoked
            }
            _ => return Err(Problem::NotFound.into()),
        };
        Ok(redirect(&done.at(&self.paths.to(Page::Tokens))))
    }

    async fn create(&self, visit: &Visit, form: &Form, parts: &Parts) -> Answer {
        let (services, lifetimes) = (self.services(), self.lifetimes());
        let form = CreateForm::of(form);
        let created = match form.check(&services, lifetimes) {
            Err(faults) => Err((StatusCode::BAD_REQUEST, faults)),
            Ok(request) => match self.client.create(&visit.browser, &request).await {
                Ok(token) => Ok(token),
                Err(refusal) => Err((refusal.status, faults_of(refusal)?)),
            },
        };
        match created {
            Ok(token) => Ok(self.created(visit, &token, parts)),
            Err((status, faults)) => {
                let content =
                    CreatePage { form: &form, faults: &faults, services: &services, lifetimes };
                Ok(page(status, views::create(self.frame(visit), content)))
            }
        }
    }

    /// Shows a new token. The answers to all other successful forms are redirections. This one is a page, because the
    /// token is not stored, so a later request could not show it.
    fn created(&self, visit: &Visit, token: &NewToken, parts: &Parts) -> Response<ResponseBody> {
        let services = self.services();
        let first = token
            .scopes
            .iter()
            .find_map(|scope| services.of_scope(scope).zip(Scope::new(scope).ok()));
        let commands = authority(parts).zip(first);
        let commands =
            commands.map(|(authority, (service, scope))| commands_for(authority, service, &scope));
        let content = CreatedPage {
            token,
            services: &services,
            commands: commands.as_deref().unwrap_or_default(),
        };
        page(StatusCode::OK, views::created(self.frame(visit), content))
    }

    async fn edit(&self, visit: &Visit, id: TokenId<'_>, form: &Form) -> Answer {
        let (name, description) = (form.get("name").trim(), form.get("description").trim());
        let faults = check_label(name, description);
        let (status, faults) = if faults.is_empty() {
            match self.client.rename(&visit.browser, id, name, description).await {
                Ok(_) => return Ok(redirect(&Notice::Changed.at(&self.paths.to(Page::Token(id))))),
                Err(refusal) => (refusal.status, faults_of(refusal)?),
            }
        } else {
            (StatusCode::BAD_REQUEST, faults)
        };
        Ok(page(status, views::edit(self.frame(visit), id, name, description, &faults)))
    }

    fn trouble(&self, visit: &Visit, trouble: Trouble) -> Response<ResponseBody> {
        match trouble {
            Trouble::Problem(problem) => self.problem(visit, problem, None),
            Trouble::Refused(refusal) if refusal.status != StatusCode::UNAUTHORIZED => {
                self.problem(visit, Problem::of(&refusal), Some(&refusal))
            }
            Trouble::AdministratorRefused(refusal)
                if refusal.status != StatusCode::UNAUTHORIZED =>
            {
                self.problem(visit, Problem::of_administrator(&refusal), Some(&refusal))
            }
            Trouble::NotSignedIn | Trouble::Refused(_) | Trouble::AdministratorRefused(_) => {
                let path = self.paths.to(Page::SignIn);
                if !visit.browser.has_login_cookie() {
                    return redirect(&path);
                }
                let mut response = redirect(&Notice::SessionEnded.at(&path));
                set_cookies(&mut response, removal_of(self.client.cookie()));
                response
            }
        }
    }

    fn problem(
        &self,
        visit: &Visit,
        problem: Problem,
        refusal: Option<&Refusal>,
    ) -> Response<ResponseBody> {
        let (heading, what_to_do) = problem.texts();
        let message = refusal.and_then(|refusal| refusal.message.as_ref());
        let content = ProblemPage {
            heading,
            what_to_do,
            detail: message.map(|message| message.text()),
            number: refusal.map_or("", Refusal::number),
            request_id: &visit.request_id,
        };
        let frame = Frame { notice: None, ..self.frame(visit) };
        let mut response = page(problem.status(), views::problem(frame, content));
        if let Some(refusal) = refusal {
            add_retry_after(&mut response, refusal);
        }
        response
    }
}

impl Visit {
    /// Returns whether the user has followed a link on another site, so that the browser has sent no cookies
    /// (`SameSite=Strict`).
    fn is_first_from_other_site(&self, headers: &HeaderMap) -> bool {
        let is_cross_site = headers.get(&SEC_FETCH_SITE).is_some_and(|site| site == "cross-site");
        is_cross_site && self.is_key_new && !self.browser.has_login_cookie()
    }
}

/// If the auth API has refused a request because of a fault in the form, returns this fault. Returns any other refusal
/// as an error.
fn faults_of(refusal: Refusal) -> Result<Vec<Fault>, Trouble> {
    let message = refusal.message.as_ref();
    match message.and_then(|message| fault_of_answer(refusal.status, message)) {
        Some(fault) => Ok(vec![fault]),
        None => Err(refusal.into()),
    }
}

/// Returns whether the browser opens the page as a document, or does not say how it uses the page. A script of a
/// service behind the gateway has the same origin as the pages, so the browser lets the script read them. This check
/// refuses the requests of such a script.
fn is_document(headers: &HeaderMap) -> bool {
    headers.get(&SEC_FETCH_DEST).is_none_or(|dest| dest == "document")
}

fn takes_forms(page: Page<'_>) -> bool {
    match page {
        Page::SignIn
        | Page::SignInWithCertificate
        | Page::SignOut
        | Page::NewToken
        | Page::RevokeAll
        | Page::Edit(_)
        | Page::Rotate(_)
        | Page::Revoke(_)
        | Page::Admin(AdminPage::Revoke(_) | AdminPage::Rule | AdminPage::Evict) => true,
        Page::Home | Page::Tokens | Page::Token(_) | Page::Admin(_) | Page::Asset(_) => false,
    }
}

fn authority(parts: &Parts) -> Option<&str> {
    let of_uri = parts.uri.authority().map(|authority| authority.as_str());
    of_uri.or_else(|| parts.headers.get(HOST)?.to_str().ok())
}

async fn read_form<B>(body: B) -> Result<Form, Problem>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let collected = Limited::new(body, MAX_BODY_LEN).collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() { Problem::TooLarge } else { Problem::Incomplete }
    })?;
    let bytes = Zeroizing::new(Vec::from(collected.to_bytes()));
    Form::parse(&bytes).map_err(|_| Problem::Incomplete)
}

fn add_retry_after(response: &mut Response<ResponseBody>, refusal: &Refusal) {
    if let Some(after) = &refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, after.clone());
    }
}

/// Removes the body, and keeps its length, as an answer to HEAD needs (RFC 9110 §9.3.2).
fn without_body(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let length = response.body().size_hint().exact();
    let mut response = response.map(|_| ResponseBody::from(Bytes::new()));
    if let Some(length) = length {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}
