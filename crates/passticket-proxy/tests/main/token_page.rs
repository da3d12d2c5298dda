//! Tests of the pages on which users manage their tokens. They send forms, as a browser without JavaScript does.

use std::collections::BTreeMap;

use crate::{logins::with_zss, support::Demo};
use reqwest::{
    Client, Method, RequestBuilder, Response, StatusCode, header::HeaderMap, redirect::Policy,
};
use serde_json::Value;
use test_support::{pki, zosmf::UserState, zss::FakeZss};

const LOGIN_COOKIE: &str = "apimlAuthenticationToken";
const FORM_COOKIE: &str = "__Host-passticket-form";

/// A text that would be markup if a page did not escape it.
pub(crate) const MARKUP: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>&amp;";

/// A browser without JavaScript. It keeps cookies, and does not follow redirections.
pub(crate) struct Browser {
    client: Client,
    base: String,
    origin: String,
    cookies: BTreeMap<String, String>,
}

/// A page, or another answer.
pub(crate) struct Page {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Browser {
    pub(crate) fn new(demo: &Demo) -> Self {
        Self::with_client(demo, demo.builder().redirect(Policy::none()).build().unwrap())
    }

    pub(crate) fn of(demo: &Demo, user: &str) -> Self {
        Self::with_client(demo, demo.builder_of(user).redirect(Policy::none()).build().unwrap())
    }

    fn with_client(demo: &Demo, client: Client) -> Self {
        let (base, origin) = (demo.at("/gateway/ui"), demo.at(""));
        Self { client, base, origin, cookies: BTreeMap::new() }
    }

    pub(crate) async fn signed_in(demo: &Demo) -> Self {
        let mut browser = Self::new(demo);
        let page = browser.sign_in("USER", "validPassword").await;
        assert_eq!((page.status.as_u16(), page.location()), (303, "/gateway/ui/tokens"));
        browser
    }

    pub(crate) async fn sign_in(&mut self, user: &str, password: &str) -> Page {
        self.submit("/sign-in", &[("user", user), ("password", password)]).await
    }

    fn url(&self, path: &str) -> String {
        if path.starts_with("/gateway/") {
            format!("{}{path}", self.origin)
        } else {
            format!("{}{path}", self.base)
        }
    }

    fn with_cookies(&self, request: RequestBuilder) -> RequestBuilder {
        let cookies: Vec<_> =
            self.cookies.iter().map(|(name, it)| format!("{name}={it}")).collect();
        if cookies.is_empty() { request } else { request.header("cookie", cookies.join("; ")) }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Page {
        let request = self.client.get(self.url(path)).header("sec-fetch-site", "same-origin");
        let response = self.with_cookies(request).send().await.unwrap();
        self.read(response).await
    }

    /// Opens the page with the form, fills the form, and sends it.
    pub(crate) async fn submit(&mut self, path: &str, fields: &[(&str, &str)]) -> Page {
        let page = self.get(path).await;
        let key = page.form_key();
        self.post(path, &key, fields).await
    }

    pub(crate) async fn post(&mut self, path: &str, key: &str, fields: &[(&str, &str)]) -> Page {
        let request = self.client.post(self.url(path));
        let request = request.header("sec-fetch-site", "same-origin").header("origin", "null");
        let response = self.with_cookies(request).body(form(key, fields));
        let response = response.header("content-type", "application/x-www-form-urlencoded");
        let response = response.send().await.unwrap();
        self.read(response).await
    }

    /// Sends a form as a page of another origin does.
    pub(crate) async fn post_from(
        &mut self,
        origin: &str,
        path: &str,
        key: &str,
        fields: &[(&str, &str)],
    ) -> Page {
        let request = self.client.post(self.url(path));
        let request = request.header("sec-fetch-site", "cross-site").header("origin", origin);
        let response = self.with_cookies(request).body(form(key, fields)).send().await.unwrap();
        self.read(response).await
    }

    async fn read(&mut self, response: Response) -> Page {
        let (status, headers) = (response.status(), response.headers().clone());
        for cookie in headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            assert!(cookie.contains("; Path=/; "), "{cookie}");
            for attribute in ["; SameSite=Strict", "; HttpOnly", "; Secure"] {
                assert!(cookie.contains(attribute), "{cookie}");
            }
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            if cookie.contains("Max-Age=0") {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        let text = response.text().await.unwrap();
        let page = Page { status, headers, text };
        page.check_headers();
        page
    }

    pub(crate) async fn create(&mut self, name: &str, more: &[(&str, &str)]) -> Page {
        let fields = [("name", name), ("service", "dcpassticket"), ("expiry", "7")];
        let page = self.submit("/tokens/new", &[&fields, more].concat()).await;
        assert_eq!(page.status, 200, "{}", page.text);
        page
    }

    pub(crate) async fn id_of(&mut self, name: &str) -> String {
        let page = self.get("/tokens?state=all").await;
        let row =
            page.text.split("<tr ").find(|row| row.contains(&format!(">{name}</a>"))).unwrap();
        let start = row.find("id=\"token-").unwrap() + "id=\"token-".len();
        row[start..start + 32].to_owned()
    }
}

impl Page {
    pub(crate) fn location(&self) -> &str {
        self.headers["location"].to_str().unwrap()
    }

    pub(crate) fn form_key(&self) -> String {
        let start = self.text.find("name=\"form-key\" value=\"").expect(&self.text);
        let start = start + "name=\"form-key\" value=\"".len();
        self.text[start..start + 32].to_owned()
    }

    pub(crate) fn element(&self, id: &str) -> String {
        let start = self
            .text
            .find(&format!("id=\"{id}\""))
            .unwrap_or_else(|| panic!("{id}: {}", self.text));
        let text = &self.text[start..];
        let start = text.find('>').unwrap() + 1;
        text[start..].split('<').next().unwrap().to_owned()
    }

    fn check_headers(&self) {
        let get = |name: &str| self.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(get("cache-control"), Some("no-store"));
        assert_eq!(get("referrer-policy"), Some("no-referrer"));
        assert_eq!(get("x-content-type-options"), Some("nosniff"));
        assert_eq!(get("cross-origin-opener-policy"), Some("same-origin"));
        let policy = get("content-security-policy").unwrap();
        assert_eq!(
            policy,
            "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
             frame-ancestors 'none'"
        );
        assert!(get("x-request-id").is_some());
        // The page contains nothing that its Content-Security-Policy forbids, and texts of users are escaped.
        for forbidden in [
            "<style",
            " style=",
            "<script>",
            "onerror=alert(2)>",
            "onclick",
            "javascript:",
            "http://",
        ] {
            assert!(!self.text.contains(forbidden), "{forbidden}: {}", self.text);
        }
    }
}

fn form(key: &str, fields: &[(&str, &str)]) -> String {
    let mut form = format!("form-key={key}");
    for (name, value) in fields {
        let value: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        form += &format!("&{name}={value}");
    }
    form
}

/// Sends a request with a token to the service of the demo. Returns the status.
pub(crate) async fn routed(demo: &Demo, pat: &str) -> u16 {
    let request = demo.client().get(demo.at("/dcpassticket/api/v1/passticketTest"));
    request.header("private-token", pat).send().await.unwrap().status().as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_creates_uses_renames_rotates_and_revokes_a_token() {
    let demo = Demo::start();
    assert!(
        demo.printed.contains("/gateway/ui, with the password validPassword"),
        "{}",
        demo.printed
    );
    let mut browser = Browser::signed_in(&demo).await;
    let page = browser.get("/tokens").await;
    assert_eq!((page.status.as_u16(), page.element("signed-in-user")), (200, "USER".to_owned()));
    assert!(page.text.contains("You have no active tokens."), "{}", page.text);

    let page = browser.get("/tokens/new").await;
    assert!(page.text.contains("Receives a PassTicket") && page.text.contains("value=\"90\""));
    let page = browser.create("jenkins", &[("description", "the build")]).await;
    let pat = page.element("token");
    assert_eq!(routed(&demo, &pat).await, 200);
    let authority = demo.url.strip_prefix("https://").unwrap();
    for id in ["command-curl", "command-git", "command-jenkins", "command-zowe"] {
        let command = page.element(id);
        assert!(command.contains(authority.split(':').next().unwrap()), "{command}");
        assert!(command.contains("dcpassticket/api/v1") && !command.contains(&pat), "{command}");
    }

    let id = browser.id_of("jenkins").await;
    let page = browser.get(&format!("/tokens/{id}")).await;
    assert!(page.text.contains("the build") && !page.text.contains(&pat), "{}", page.text);

    let edit = format!("/tokens/{id}/edit");
    let page = browser.submit(&edit, &[("name", "git"), ("description", "")]).await;
    assert_eq!(page.location(), format!("/gateway/ui/tokens/{id}?done=changed"));
    let location = page.location().to_owned();
    let page = browser.get(&location).await;
    assert!(page.text.contains("<h1>git</h1>") && page.element("notice").contains("changed"));
    let page = browser.submit(&edit, &[("name", " ")]).await;
    assert_eq!(
        (page.status.as_u16(), page.element("name-fault").as_str()),
        (400, "Enter a name for the token.")
    );

    let page = browser.submit(&format!("/tokens/{id}/rotate"), &[("grace", "0")]).await;
    assert_eq!(page.status, 200, "{}", page.text);
    let new = page.element("token");
    assert_ne!(new, pat);
    assert_eq!(routed(&demo, &new).await, 200);
    let page = browser.submit(&format!("/tokens/{id}/rotate"), &[("grace", "0")]).await;
    assert_eq!(page.status, 409);
    assert!(page.element("what-to-do").contains("cannot be rotated"), "{}", page.text);

    let id = browser.id_of("git").await;
    let page = browser.submit(&format!("/tokens/{id}/revoke"), &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens?done=revoked");
    assert_eq!(routed(&demo, &new).await, 401);
    let page = browser.get("/tokens?state=revoked&sort=name").await;
    assert!(page.text.contains(&id), "{}", page.text);

    let pat = browser.create("last", &[]).await.element("token");
    let page = browser.get("/tokens/revoke-all").await;
    assert_eq!(page.element("count"), "You have 1 active token.");
    let page = browser.submit("/tokens/revoke-all", &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens?done=all-revoked");
    assert_eq!(routed(&demo, &pat).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_chooses_what_a_token_may_do() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    let status = async |pat: &str, method: Method, path: &str| {
        let url = demo.at(&format!("/dcpassticket/api/v1/{path}"));
        let request = demo.client().request(method, url).header("private-token", pat);
        request.send().await.unwrap().status().as_u16()
    };
    let (access, path) = ("access-dcpassticket", "path-dcpassticket");
    let page = browser.create("all", &[(access, "all"), (path, "")]).await;
    assert_eq!(status(&page.element("token"), Method::DELETE, "passticketTest").await, 200);

    let page = browser.create("reader", &[(access, "read"), (path, " ")]).await;
    assert!(page.text.contains(", read only (dcpassticket:read)"), "{}", page.text);
    assert!(page.text.contains("command-curl") && !page.text.contains("command-git"));
    let pat = page.element("token");
    assert_eq!(status(&pat, Method::GET, "passticketTest").await, 200);
    assert_eq!(status(&pat, Method::DELETE, "passticketTest").await, 401);

    let page = browser.create("below", &[(access, "path"), (path, " /passticketTest ")]).await;
    assert!(page.text.contains(", only /passticketTest and below (dcpassticket:/passticketTest)"));
    assert!(page.element("command-curl").contains("/dcpassticket/api/v1/passticketTest/"));
    let pat = page.element("token");
    assert_eq!(status(&pat, Method::DELETE, "passticketTest").await, 200);
    let page = browser.create("elsewhere", &[(access, "path"), (path, "/request")]).await;
    assert_eq!(status(&page.element("token"), Method::GET, "passticketTest").await, 401);

    let page = browser.get("/tokens").await;
    assert!(page.text.contains(", read only") && page.text.contains("and below"), "{}", page.text);
    let id = browser.id_of("reader").await;
    let page = browser.get(&format!("/tokens/{id}")).await;
    assert!(page.text.contains(", read only <code>dcpassticket:read</code>"), "{}", page.text);

    for (what, below, field, want) in [
        ("all", "/x", path, "You have entered a path, but not chosen “Only below a path”."),
        ("read", "/x", path, "You have entered a path, but not chosen “Only below a path”."),
        ("path", "", path, "Enter the path, such as /reports"),
        ("path", "x", path, "Begin the path with a slash"),
        ("path", "/x/../y", path, "Leave out empty parts"),
        ("path", "/x,dcbypass", path, "Write blanks, commas"),
        ("path", MARKUP, path, "Begin the path with a slash"),
        ("write", "", access, "A token for this service cannot have this access."),
        (MARKUP, "", access, "A token for this service cannot have this access."),
    ] {
        let fields = [
            ("name", "x"),
            ("service", "dcpassticket"),
            ("expiry", "7"),
            (access, what),
            (path, below),
        ];
        let page = browser.submit("/tokens/new", &fields).await;
        assert_eq!(page.status, 400, "{what} {below}");
        let fault = page.element(&format!("{field}-fault"));
        assert!(fault.starts_with(want), "{what} {below}: {fault}");
        // The problem is in the summary, and screen readers find it at the field.
        assert!(page.text.contains(&format!("<a href=\"#{field}\">")), "{}", page.text);
        let start = page.text.find(&format!("id=\"{field}\"")).unwrap();
        let element = page.text[start..].split('>').next().unwrap();
        assert!(element.contains("aria-invalid=\"true\""), "{element}");
        assert!(element.contains(&format!("{field}-fault\"")), "{element}");
        let is_kept = what != "path" || page.text.contains("<option value=\"path\" selected>");
        assert!(is_kept, "{}", page.text);
    }
    let fields =
        [("name", "x"), ("service", "dcpassticket"), ("expiry", "7"), ("path-dcbypass", "/x")];
    let page = browser.submit("/tokens/new", &fields).await;
    assert_eq!(page.status, 400);
    assert!(page.element("path-dcbypass-fault").contains("not chosen the service"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_form_offers_only_scopes_that_the_administrator_allows() {
    let setting =
        "    personalAccessToken:\n      allowedScopes: [\"dcbypass:/a\", \"dcpassticket:read\"]\n";
    let demo = Demo::reconfigured(|yaml| yaml + setting);
    let mut browser = Browser::signed_in(&demo).await;
    let page = browser.get("/tokens/new").await;
    assert_eq!(page.text.matches("name=\"service\"").count(), 2, "{}", page.text);
    for (value, want) in [("all", 0), ("read", 1), ("path", 1)] {
        let options = page.text.matches(&format!("<option value=\"{value}\"")).count();
        assert_eq!(options, want, "{value}");
    }
    browser.create("reader", &[("access-dcpassticket", "read")]).await;
    let mut fields = vec![("name", "x"), ("service", "dcpassticket"), ("expiry", "7")];
    let page = browser.submit("/tokens/new", &fields).await;
    assert_eq!(page.status, 400);
    assert!(page.element("access-dcpassticket-fault").contains("cannot have this access"));
    fields[1] = ("service", "dcbypass");
    fields.extend([("access-dcbypass", "path"), ("path-dcbypass", "/b")]);
    let page = browser.submit("/tokens/new", &fields).await;
    assert_eq!(page.status, 400);
    let fault = page.element("path-dcbypass-fault");
    assert!(fault.ends_with("or a path below it: /a"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn services_do_not_receive_the_key_of_the_forms() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    browser.cookies.insert("own".to_owned(), "stays".to_owned());
    let key = browser.cookies[FORM_COOKIE].clone();
    let request = browser.client.get(browser.url("/tokens")).header("sec-fetch-dest", "document");
    assert_eq!(browser.with_cookies(request).send().await.unwrap().status(), 200);
    let request = browser.client.get(demo.at("/dcpassticket/api/v1/request"));
    let echo = browser.with_cookies(request).send().await.unwrap().text().await.unwrap();
    assert!(echo.contains("own=stays"), "{echo}");
    assert!(!echo.contains(&key) && !echo.contains("passticket-form"), "{echo}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_is_filtered_and_has_pages() {
    let demo =
        Demo::reconfigured(|yaml| yaml + "    personalAccessToken:\n      maximumPerUser: 60\n");
    let mut browser = Browser::signed_in(&demo).await;
    let token = browser.cookies[LOGIN_COOKIE].clone();
    for number in 0..51 {
        let request = demo.client().post(demo.auth("access-tokens")).bearer_auth(&token);
        let body = format!(r#"{{"name":"token {number}","scopes":["dcpassticket"],"validity":1}}"#);
        assert_eq!(request.body(body).send().await.unwrap().status(), 201);
    }
    let page = browser.get("/tokens").await;
    assert_eq!(page.text.matches("<tr role=\"row\" id=").count(), 50);
    let next =
        page.text.split("id=\"next-page\" href=\"").nth(1).unwrap().split('"').next().unwrap();
    let next = next.replace("&amp;", "&");
    let page = browser.get(&next).await;
    assert!(page.text.contains(">token 0</a>") && page.text.contains("id=\"first-page\""));
    let page = browser.get("/tokens?sort=name").await;
    assert_eq!(page.text.matches("<tr role=\"row\" id=").count(), 51);
    let page = browser.get("/tokens?name=TOKEN+50").await;
    assert_eq!(page.text.matches("<tr role=\"row\" id=").count(), 1);
    // If the query of the URL is wrong, the browser gets the list.
    assert_eq!(browser.get("/tokens?cursor=x").await.location(), "/gateway/ui/tokens");
    assert_eq!(browser.get("/tokens?state=%zz").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_without_the_key_of_its_session_changes_nothing() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    browser.create("one", &[]).await;
    let id = browser.id_of("one").await;
    let mut other = Browser::signed_in(&demo).await;
    let foreign = other.get("/tokens/new").await.form_key();
    let own = browser.get("/tokens/new").await.form_key();
    assert_ne!(own, foreign);
    let revoke = format!("/tokens/{id}/revoke");
    for path in [
        "/tokens/new",
        "/tokens/revoke-all",
        "/sign-in",
        "/sign-in/certificate",
        "/sign-out",
        &revoke,
    ] {
        for key in ["", &foreign, &own[..31], &own.to_uppercase()] {
            if key == own {
                continue;
            }
            let page = browser.post(path, key, &[]).await;
            assert_eq!(page.status, 403, "{path}");
            assert!(page.text.contains("The form is not valid"), "{}", page.text);
            assert_eq!(page.element("request-id"), page.headers["x-request-id"].to_str().unwrap());
        }
        // The browser has no cookie with the key.
        let cookie = browser.cookies.remove(FORM_COOKIE).unwrap();
        let page = browser.post(path, &own, &[]).await;
        assert_eq!(page.status, 403, "{path}");
        browser.cookies.insert(FORM_COOKIE.to_owned(), cookie);
        for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://evil.example")]
        {
            let request = browser.client.post(browser.url(path)).header(name, value);
            let fields = [
                ("user", "USER"),
                ("password", "validPassword"),
                ("name", "x"),
                ("service", "dcpassticket"),
                ("expiry", "7"),
            ];
            let request = browser.with_cookies(request).body(form(&own, &fields));
            let response = request.send().await.unwrap();
            assert_eq!(response.status(), 403, "{path} {name}");
        }
    }
    let page = browser.get("/tokens").await;
    assert!(page.text.contains(&id), "the token is still active");
    // Each sign-in and each sign-out sets a new key for forms.
    let before = browser.cookies[FORM_COOKIE].clone();
    browser.sign_in("USER", "validPassword").await;
    let during = browser.cookies[FORM_COOKIE].clone();
    browser.post("/sign-out", &during, &[]).await;
    let after = browser.cookies[FORM_COOKIE].clone();
    assert!(before != during && during != after);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_sign_out_the_session_is_gone() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    let token = browser.cookies[LOGIN_COOKIE].clone();
    let key = browser.get("/tokens").await.form_key();
    let page = browser.post("/sign-out", &key, &[]).await;
    assert_eq!(page.location(), "/gateway/ui/sign-in?done=signed-out");
    assert!(!browser.cookies.contains_key(LOGIN_COOKIE));
    let query = demo.client().get(demo.auth("query")).bearer_auth(&token).send().await.unwrap();
    assert_eq!(query.status(), 401, "the token is revoked");
    assert_eq!(browser.get("/tokens").await.location(), "/gateway/ui/sign-in");
    // The token is revoked, so a copy of the cookie does not restore the session. The response removes the cookie.
    browser.cookies.insert(LOGIN_COOKIE.to_owned(), token);
    assert_eq!(browser.get("/tokens").await.location(), "/gateway/ui/sign-in?done=session-ended");
    assert!(!browser.cookies.contains_key(LOGIN_COOKIE));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sign_in_has_a_new_token_whatever_the_cookie_was() {
    let demo = Demo::start();
    let mut browser = Browser::new(&demo);
    let pat = demo.pat(&["dcpassticket"]).await;
    for old in [demo.login().await, pat, "x".to_owned()] {
        browser.cookies.insert(LOGIN_COOKIE.to_owned(), old.clone());
        let page = browser.sign_in("USER", "validPassword").await;
        assert_eq!(page.location(), "/gateway/ui/tokens");
        assert_ne!(browser.cookies[LOGIN_COOKIE], old);
        assert_eq!(browser.get("/tokens").await.status, 200);
    }
    // A PAT is no credential of the pages.
    let pat = demo.pat(&["dcpassticket"]).await;
    browser.cookies.insert(LOGIN_COOKIE.to_owned(), pat);
    assert_eq!(browser.get("/tokens").await.location(), "/gateway/ui/sign-in?done=session-ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_signs_in_only_if_the_user_asks_for_it() {
    let demo = Demo::start();
    let mut browser = Browser::of(&demo, "USER");
    assert_eq!(browser.get("/tokens").await.location(), "/gateway/ui/sign-in");
    let page = browser.get("/sign-in").await;
    assert!(page.text.contains("Continue with the certificate of USER"), "{}", page.text);
    let key = page.form_key();
    let page = browser.post("/sign-in/certificate", &key, &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens");
    assert_eq!(browser.get("/tokens").await.element("signed-in-user"), "USER");
    let key = browser.cookies[FORM_COOKIE].clone();
    browser.post("/sign-out", &key, &[]).await;
    assert_eq!(browser.get("/tokens").await.location(), "/gateway/ui/sign-in");
    let page = Browser::new(&demo).get("/sign-in").await;
    assert!(!page.text.contains("use-certificate"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_at_sign_in_say_what_to_do_and_carry_the_request_id() {
    let demo = Demo::start();
    let mut browser = Browser::new(&demo);
    for (user, password, status, want) in [
        ("USER", "wrong", 401, "The user id or the password is wrong."),
        (MARKUP, "x", 401, "The user id or the password is wrong."),
        ("", "x", 400, "Enter your user id and your password."),
        ("USER", "", 400, "Enter your user id and your password."),
    ] {
        let page = browser.sign_in(user, password).await;
        assert_eq!(page.status, status, "{user}");
        assert!(page.element("trouble").starts_with(want), "{}", page.text);
        assert_eq!(page.element("request-id"), page.headers["x-request-id"].to_str().unwrap());
    }
    let page = browser
        .submit(
            "/sign-in",
            &[
                ("user", "USER"),
                ("password", "validPassword"),
                ("new-password", "a"),
                ("new-password-again", "b"),
            ],
        )
        .await;
    assert!(page.element("trouble").starts_with("The two new passwords are not the same."));
    let page = browser
        .submit(
            "/sign-in",
            &[
                ("user", "USER"),
                ("password", "validPassword"),
                ("new-password", "a"),
                ("new-password-again", "a"),
            ],
        )
        .await;
    assert!(
        page.element("trouble").starts_with("This gateway cannot change passwords."),
        "{}",
        page.text
    );
    // The pages have the login throttle of the auth API.
    let mut status = 401;
    for _ in 0..8 {
        let page = browser.sign_in("USER", "wrong").await;
        status = page.status.as_u16();
        if status == 429 {
            assert!(page.headers.contains_key("retry-after"));
            break;
        }
    }
    assert_eq!(status, 429);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_password_is_changed_at_sign_in() {
    let zss = FakeZss::https(pki::SERVER.acceptor()).await;
    zss.set_user("OLD", "oldPassword", UserState::Expired);
    zss.set_user("GONE", "itsPassword", UserState::Revoked);
    let demo = with_zss(&zss).await;
    let mut browser = Browser::new(&demo);
    let page = browser.get("/sign-in").await;
    assert!(page.text.contains("change-password") && !page.text.contains("new-password"));
    assert!(browser.get("/sign-in?change=1").await.text.contains("id=\"new-password\""));
    let page = browser.sign_in("OLD", "oldPassword").await;
    assert_eq!(page.status, 401);
    assert!(page.element("trouble").starts_with("Your password has expired. Choose a new one"));
    assert!(page.text.contains("ZWEAT412E") && page.text.contains("id=\"new-password\""));
    let change = |password, new: &'static str| {
        [
            ("user", "OLD"),
            ("password", password),
            ("new-password", new),
            ("new-password-again", new),
        ]
    };
    let page = browser.submit("/sign-in", &change("oldPassword", "weak")).await;
    assert!(page.element("trouble").starts_with("z/OS does not accept the new password."));
    let page = browser.submit("/sign-in", &change("oldPassword", "new1")).await;
    assert_eq!(page.location(), "/gateway/ui/tokens");
    assert_eq!(browser.get("/tokens").await.element("signed-in-user"), "OLD");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_also_works_with_the_profile_of_zowe() {
    let demo = Demo::reconfigured(|yaml| yaml + "    compatibility: zowe-v3\n");
    let mut browser = Browser::new(&demo);
    let page = browser.sign_in("USER", "wrong").await;
    assert_eq!(page.status, 401);
    assert!(page.element("trouble").starts_with("The user id or the password is wrong."));
    let mut browser = Browser::signed_in(&demo).await;
    browser.create("one", &[]).await;
    let id = browser.id_of("one").await;
    let page = browser.submit(&format!("/tokens/{id}/revoke"), &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens?done=revoked");
    let page = browser.submit("/tokens/revoke-all", &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens?done=all-revoked");
    let key = browser.get("/tokens").await.form_key();
    let page = browser.post("/sign-out", &key, &[]).await;
    assert_eq!(page.location(), "/gateway/ui/sign-in?done=signed-out");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_of_users_and_of_definitions_are_never_markup() {
    let demo = Demo::with_files(|directory, yaml| {
        let path = directory.join("api-defs/demo.yml");
        let definitions = std::fs::read_to_string(&path).unwrap();
        let title = "title: '<script>alert(3)</script><img src=x onerror=alert(2)>'";
        let definitions = definitions.replace("title: Receives a PassTicket", title);
        let definitions =
            definitions.replace("description: Echoes the request at", "description: <b>x</b>");
        std::fs::write(&path, definitions).unwrap();
        yaml
    });
    let mut browser = Browser::signed_in(&demo).await;
    let name = &MARKUP[..MARKUP.len().min(64)];
    // `check_headers` looks for markup in each page.
    let page = browser.create(name, &[("description", MARKUP)]).await;
    assert!(page.text.contains("&lt;script&gt;alert(1)"), "{}", page.text);
    assert!(page.text.contains("&lt;script&gt;alert(3)"), "{}", page.text);
    let page = browser.get("/tokens").await;
    assert!(page.text.contains("&lt;script&gt;alert(1)"), "{}", page.text);
    let start = page.text.find("id=\"token-").unwrap() + "id=\"token-".len();
    let id = page.text[start..start + 32].to_owned();
    for path in ["", "/edit", "/rotate", "/revoke"] {
        let page = browser.get(&format!("/tokens/{id}{path}")).await;
        assert!(page.text.contains("&lt;script&gt;alert(1)"), "{path}: {}", page.text);
    }
    browser.get("/tokens/new").await;
    let fields = [("name", MARKUP), ("service", MARKUP), ("expiry", MARKUP), ("date", MARKUP)];
    let page = browser.submit("/tokens/new", &fields).await;
    assert_eq!(page.status, 400);
    browser.get(&format!("/tokens?name={}", "%22%3E%3Cscript%3E")).await;
    browser.get("/%3Cscript%3E").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_requests_get_pages_that_say_what_to_do() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    let unknown = format!("/tokens/{}", "0".repeat(32));
    for (path, want) in
        [("/x", "Page not found"), ("/tokens/x", "Page not found"), (&*unknown, "Token not found")]
    {
        let page = browser.get(path).await;
        assert_eq!(page.status, 404, "{path}");
        assert!(page.text.contains(want), "{}", page.text);
    }
    assert_eq!(browser.get("").await.location(), "/gateway/ui/tokens");
    assert_eq!(browser.get("/sign-out").await.location(), "/gateway/ui/tokens");

    // The page refuses requests of scripts, because a script of a service has the same origin as the page. It also
    // refuses to be loaded in a frame.
    for dest in ["empty", "iframe"] {
        let request = browser.client.get(browser.url("/tokens")).header("sec-fetch-dest", dest);
        let response = browser.with_cookies(request).send().await.unwrap();
        assert_eq!(response.status(), 403, "{dest}");
    }
    // The browser follows a link on another site without sending the cookies. So the answer makes the browser load the
    // page again.
    let request =
        browser.client.get(browser.url("/tokens?sort=name")).header("sec-fetch-site", "cross-site");
    let response = request.send().await.unwrap();
    assert!(!response.headers().contains_key("location"));
    let text = response.text().await.unwrap();
    assert!(
        text.contains("http-equiv=\"refresh\" content=\"0; url=/gateway/ui/tokens?sort=name\""),
        "{text}"
    );

    let put = browser.client.put(browser.url("/tokens/new")).send().await.unwrap();
    assert_eq!(
        (put.status().as_u16(), &put.headers()["allow"]),
        (405, &"GET, HEAD, POST".parse().unwrap())
    );
    let large = form(&browser.cookies[FORM_COOKIE], &[("name", &"x".repeat(70_000))]);
    let request = browser.with_cookies(browser.client.post(browser.url("/tokens/new")).body(large));
    assert_eq!(request.send().await.unwrap().status(), 413);
    let key = browser.cookies[FORM_COOKIE].clone();
    let request = browser.client.post(browser.url("/tokens/new"));
    let request = browser.with_cookies(request.body(format!("form-key={key}&name=%zz")));
    assert_eq!(request.send().await.unwrap().status(), 400);

    let page = browser.get("/tokens").await;
    let head = browser.client.head(browser.url("/tokens"));
    let head = browser.with_cookies(head).send().await.unwrap();
    assert_eq!(head.headers()["content-length"], page.text.len().to_string());
    for ending in ["css", "js", "svg"] {
        let start = page.text.match_indices("/gateway/ui/assets/").map(|(at, _)| &page.text[at..]);
        let path =
            start.map(|it| it.split('"').next().unwrap()).find(|it| it.ends_with(ending)).unwrap();
        let asset = browser.client.get(browser.url(path)).send().await.unwrap();
        assert_eq!(asset.status(), 200, "{path}");
        assert_eq!(asset.headers()["cache-control"], "public, max-age=31536000, immutable");
        assert!(!asset.headers().contains_key("set-cookie"));
    }
    let gone = browser.client.get(browser.url("/assets/page-0000.css")).send().await.unwrap();
    assert_eq!(gone.status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_is_off_by_default_and_its_path_is_configurable() {
    let demo = Demo::reconfigured(|yaml| yaml.replace("    ui:\n      enabled: true\n", ""));
    assert_eq!(demo.client().get(demo.at("/gateway/ui")).send().await.unwrap().status(), 404);
    let demo = Demo::reconfigured(|yaml| {
        yaml.replace(
            "      enabled: true\n    apiDefs",
            "      enabled: true\n      path: /my/tokens\n    apiDefs",
        )
    });
    assert_eq!(
        demo.client().get(demo.at("/my/tokens/sign-in")).send().await.unwrap().status(),
        200
    );
    assert_eq!(demo.client().get(demo.at("/gateway/ui")).send().await.unwrap().status(), 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_created_and_revoked_with_a_login_token() {
    let demo = Demo::start();
    let token = demo.login().await;
    let create = |body: &'static str| {
        demo.client().post(demo.auth("access-tokens")).bearer_auth(&token).body(body).send()
    };
    let response = create(r#"{"name":"a","scopes":["dcpassticket"],"validity":1}"#).await.unwrap();
    assert_eq!(response.status(), 201);
    assert_eq!(response.headers()["content-type"], "application/json");
    let new: Value = response.json().await.unwrap();
    let pat = new["token"].as_str().unwrap().to_owned();
    assert_eq!((new["name"].as_str(), new["id"].as_str().map(str::len)), (Some("a"), Some(32)));
    assert_eq!(routed(&demo, &pat).await, 200);
    for wrong in ["", "{}", r#"{"scopes":["a"],"validity":1,"expiresAt":"2027-01-15T08:00:00Z"}"#] {
        assert_eq!(create(wrong).await.unwrap().status(), 400, "{wrong}");
    }
    // A PAT cannot create or revoke tokens. Nor can a page of another site.
    let url = demo.auth("access-tokens");
    let body = r#"{"scopes":["dcpassticket"]}"#;
    assert_eq!(
        demo.client().post(&url).bearer_auth(&pat).body(body).send().await.unwrap().status(),
        401
    );
    assert_eq!(demo.client().delete(&url).bearer_auth(&pat).send().await.unwrap().status(), 401);
    assert_eq!(demo.client().post(&url).body(body).send().await.unwrap().status(), 401);
    let request = demo.client().post(&url).header("cookie", format!("{LOGIN_COOKIE}={token}"));
    let request = request.header("sec-fetch-site", "cross-site").body(body);
    assert_eq!(request.send().await.unwrap().status(), 403);
    assert_eq!(routed(&demo, &pat).await, 200);

    let basic = |user: &str, path: &str| {
        let request = demo.client_of(user).delete(format!("{url}{path}"));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    // APIMTST has no permission to revoke the tokens of others.
    assert_eq!(basic("APIMTST", "?user=USER").await, 403);
    assert_eq!(basic("APIMTST", "?service=dcpassticket").await, 403);
    assert_eq!(basic("APIMTST", "?all=true").await, 400);
    assert_eq!(basic("APIMTST", "").await, 204);
    assert_eq!(routed(&demo, &pat).await, 200);
    assert_eq!(basic("USER", "?service=dcpassticket").await, 204);
    assert_eq!(routed(&demo, &pat).await, 401);
    // The gateway writes audit records after at most one second.
    let deadline = std::time::Instant::now() + test_support::PATIENCE;
    let audit = || std::fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    let is_written = || audit().contains("\"token-minted\"") && audit().contains("\"rule-made\"");
    while !is_written() && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert!(is_written(), "{}", audit());
}
