//! Answers the requests for the pages of administrators.
//!
//! An administrator is a user whom the auth API lets manage the tokens of other users. Each request for such a page
//! asks the auth API, so the pages decide nothing themselves.

use std::time::Duration;

use http::StatusCode;
use tokio::time::timeout;

use super::{Answer, Inner, PAGE_LEN, Visit};
use crate::ui::{
    audit_log::{AuditQuery, ReadError},
    auth_client::{Evicted, Permissions, Refusal, TokenFilter, TokenPage, UsersTokenFilter},
    form::{Form, query},
    health::GatewayHealth,
    list_query::State,
    notice::Notice,
    paths::{AdminPage, Page, TokenId},
    response::{page, redirect},
    rule_form::{Rule, RuleForm, UpTo},
    search_query::SearchQuery,
    trouble::{Problem, Trouble},
    views::{self, RulePage, RulePreview, SearchPage},
};

/// A page that is not for administrators waits at most this time for the permissions of the user. If the answer takes
/// longer, the page appears without the link to the pages of administrators.
const PERMISSIONS_WAIT: Duration = Duration::from_secs(2);

/// The preview of a rule counts the tokens on at most this number of pages. A page has up to 100 tokens.
const MAX_COUNTED_PAGES: usize = 20;

impl Inner {
    /// Asks for the permissions of the user, so that the page has a link for administrators.
    pub(super) async fn learn_permissions(&self, visit: &Visit) {
        let asked = timeout(PERMISSIONS_WAIT, self.client.permissions(&visit.browser)).await;
        if let Ok(Ok(permissions)) = asked {
            // The permissions are set only once for each request.
            let _ = visit.permissions.set(permissions);
        }
    }

    pub(super) async fn administrator_required(
        &self,
        visit: &Visit,
    ) -> Result<Permissions, Trouble> {
        self.sign_in_required(visit).await?;
        let permissions = self.client.permissions(&visit.browser).await.map_err(refused)?;
        let permissions = *visit.permissions.get_or_init(|| permissions);
        if !permissions.manage_tokens {
            // This call only makes an audit record: the auth API refuses the call, and records the refusal.
            let filter = UsersTokenFilter::default();
            self.client.tokens_of_users(&visit.browser, &filter, "", 1).await.map_err(refused)?;
            return Err(Problem::NotAdministrator.into());
        }
        Ok(permissions)
    }

    /// Answers GET.
    pub(super) async fn show_admin(&self, visit: &Visit, found: AdminPage<'_>) -> Answer {
        self.administrator_required(visit).await?;
        let user = visit.query.get("user");
        let markup = match found {
            AdminPage::Home => {
                return Ok(redirect(&self.paths.to(Page::Admin(AdminPage::Tokens))));
            }
            AdminPage::Tokens => return self.search(visit).await,
            AdminPage::Token(id) | AdminPage::Revoke(id) => {
                let token = self.client.token_of(&visit.browser, user, id).await;
                let token = token.map_err(refused)?;
                let frame = self.frame(visit);
                match found {
                    AdminPage::Token(_) => views::users_token(frame, &token, &self.services()),
                    _ => views::revoke_users_token(frame, id, &token, &self.services()),
                }
            }
            AdminPage::Rule => return self.rule(visit).await,
            AdminPage::Evict => views::evict(self.frame(visit), evicted(&visit.query)),
            AdminPage::Audit => {
                let audit = AuditQuery::of(&visit.query);
                let found = self.audit.find(audit.clone()).await;
                if let Err(error @ ReadError::File { .. }) = &found {
                    tracing::warn!(%error, "the page cannot show the audit log");
                }
                let status = match &found {
                    Err(ReadError::Busy | ReadError::File { .. }) => {
                        StatusCode::SERVICE_UNAVAILABLE
                    }
                    _ => StatusCode::OK,
                };
                let markup = views::audit(self.frame(visit), &audit, &found);
                return Ok(page(status, markup));
            }
            AdminPage::Health => {
                let document = (self.options.health)();
                let health = GatewayHealth::read(document).ok_or(Problem::Failed)?;
                views::health(self.frame(visit), &health)
            }
        };
        Ok(page(StatusCode::OK, markup))
    }

    /// Answers a form.
    pub(super) async fn submit_admin(
        &self,
        visit: &Visit,
        found: AdminPage<'_>,
        form: &Form,
    ) -> Answer {
        self.administrator_required(visit).await?;
        match found {
            AdminPage::Revoke(id) => self.revoke_of(visit, id, form).await,
            AdminPage::Rule => self.make_rule(visit, form).await,
            AdminPage::Evict => {
                let Evicted { tokens, users, services } =
                    self.client.evict(&visit.browser).await.map_err(refused)?;
                let counts = [tokens, users, services].map(|count| count.to_string());
                let [tokens, users, services] = &counts;
                let counts = query(&[("tokens", tokens), ("users", users), ("services", services)]);
                Ok(redirect(&format!("{}{counts}", self.paths.to(Page::Admin(found)))))
            }
            AdminPage::Home
            | AdminPage::Tokens
            | AdminPage::Token(_)
            | AdminPage::Audit
            | AdminPage::Health => Err(Problem::NotFound.into()),
        }
    }

    async fn search(&self, visit: &Visit) -> Answer {
        let search = SearchQuery::of(&visit.query);
        let (tokens, faults) = match search.filter() {
            Err(faults) => (TokenPage::default(), faults),
            Ok(filter) => {
                let listed =
                    self.client.tokens_of_users(&visit.browser, &filter, &search.cursor, PAGE_LEN);
                match listed.await {
                    // The cursor of an old bookmark may not be valid any more.
                    Err(refusal)
                        if refusal.status == StatusCode::BAD_REQUEST
                            && !search.cursor.is_empty() =>
                    {
                        let path = self.paths.to(Page::Admin(AdminPage::Tokens));
                        return Ok(redirect(&format!("{path}{}", search.at(""))));
                    }
                    listed => (listed.map_err(refused)?, Vec::new()),
                }
            }
        };
        let status = if faults.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        let content = SearchPage {
            search: &search,
            faults: &faults,
            page: &tokens,
            services: &self.services(),
            now: self.options.clock.now(),
        };
        Ok(page(status, views::search(self.frame(visit), content)))
    }

    async fn revoke_of(&self, visit: &Visit, id: TokenId<'_>, form: &Form) -> Answer {
        let user = form.get("user");
        self.client.revoke_of(&visit.browser, user, id).await.map_err(refused)?;
        Ok(redirect(&Notice::Revoked.at(&self.tokens_of(&[("user", user)]))))
    }

    /// Shows the form for a rule, or the preview of the rule that the query describes.
    async fn rule(&self, visit: &Visit) -> Answer {
        let form = RuleForm::of(&visit.query);
        let frame = self.frame(visit);
        let services = self.services();
        if RuleForm::is_empty(&visit.query) {
            let content = RulePage { form: &form, faults: &[], services: &services };
            return Ok(page(StatusCode::OK, views::rule(frame, content)));
        }
        let faults = match form.check(self.options.clock.now()) {
            Ok(rule) => {
                let preview = self.preview(visit, &rule).await.map_err(refused)?;
                let markup = views::preview(frame, &form, &rule, &preview, &services);
                return Ok(page(StatusCode::OK, markup));
            }
            Err(faults) => faults,
        };
        let content = RulePage { form: &form, faults: &faults, services: &services };
        Ok(page(StatusCode::BAD_REQUEST, views::rule(frame, content)))
    }

    /// Finds the active tokens that a rule revokes. Reads at most [`MAX_COUNTED_PAGES`] pages of tokens.
    async fn preview(&self, visit: &Visit, rule: &Rule) -> Result<RulePreview, Refusal> {
        let (parameter, value) = rule.target.parameter();
        let of = TokenFilter { state: State::Active.word(), name: String::new() };
        let mut filter = UsersTokenFilter { of, ..UsersTokenFilter::default() };
        match parameter {
            "user" => value.clone_into(&mut filter.user),
            _ => value.clone_into(&mut filter.service),
        }
        let mut preview = RulePreview::default();
        let mut cursor = String::new();
        for _ in 0..MAX_COUNTED_PAGES {
            let listed = self.client.tokens_of_users(&visit.browser, &filter, &cursor, 100).await?;
            for token in listed.tokens.into_iter().filter(|token| rule.hits(token)) {
                preview.count += 1;
                if preview.first.len() < PAGE_LEN {
                    preview.first.push(token);
                }
            }
            match listed.next {
                Some(next) => cursor = next,
                None => return Ok(preview),
            }
        }
        preview.has_more = true;
        Ok(preview)
    }

    async fn make_rule(&self, visit: &Visit, form: &Form) -> Answer {
        let form = RuleForm::of(form);
        let rule = match form.check(self.options.clock.now()) {
            Ok(rule) => rule,
            Err(faults) => {
                let services = self.services();
                let content = RulePage { form: &form, faults: &faults, services: &services };
                return Ok(page(StatusCode::BAD_REQUEST, views::rule(self.frame(visit), content)));
            }
        };
        let up_to = rule.up_to.as_ref().map(UpTo::as_str);
        self.client.make_rule(&visit.browser, &rule.target, up_to).await.map_err(refused)?;
        let parameter = rule.target.parameter();
        Ok(redirect(&Notice::RuleMade.at(&self.tokens_of(&[parameter]))))
    }

    /// Returns the address of a search for tokens in any state.
    fn tokens_of(&self, parameters: &[(&str, &str)]) -> String {
        let all = ("state", State::All.word());
        let query = query(&[parameters, &[all]].concat());
        format!("{}{query}", self.paths.to(Page::Admin(AdminPage::Tokens)))
    }
}

fn refused(refusal: Refusal) -> Trouble {
    Trouble::AdministratorRefused(refusal)
}

/// Reads the counts in the URL of the page that removes expired revocations.
fn evicted(query: &Form) -> Option<Evicted> {
    let count = |name| query.get(name).parse().ok();
    Some(Evicted { tokens: count("tokens")?, users: count("users")?, services: count("services")? })
}
