//! Tests of the pages of administrators. `USER` is an administrator of the demo, and `APIMTST` is not.

use crate::{
    support::{Demo, without_exchange},
    token_page::{Browser, MARKUP, Page, routed},
};

/// The pages that an administrator can open without the id of a token.
const PAGES: [&str; 8] = [
    "/admin",
    "/admin/tokens",
    "/admin/rule",
    "/admin/rule?user=APIMTST",
    "/admin/rule?service=dcpassticket",
    "/admin/evict",
    "/admin/audit",
    "/admin/health",
];

async fn ordinary(demo: &Demo) -> Browser {
    let mut browser = Browser::of(demo, "APIMTST");
    let key = browser.get("/sign-in").await.form_key();
    let page = browser.post("/sign-in/certificate", &key, &[]).await;
    assert_eq!(page.location(), "/gateway/ui/tokens");
    browser
}

impl Page {
    fn names(&self) -> Vec<String> {
        let rows = self.text.split("<th scope=\"row\"").skip(1);
        let name = |row: &str| {
            let (_, row) = row.split_once("<a href=\"").unwrap();
            let (_, name) = row.split_once('>').unwrap();
            name.split('<').next().unwrap().to_owned()
        };
        rows.map(name).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_find_and_revoke_a_token_of_another_user() {
    let demo = Demo::start();
    let mut user = ordinary(&demo).await;
    let pat = user.create("theirs", &[("description", "of another")]).await.element("token");
    user.create("other", &[]).await;
    let mut browser = Browser::signed_in(&demo).await;
    browser.create("mine", &[]).await;
    let page = browser.get("/tokens").await;
    assert!(page.text.contains("id=\"nav-admin\""), "{}", page.text);
    assert_eq!(page.names(), ["mine"]);
    assert_eq!(browser.get("/admin").await.location(), "/gateway/ui/admin/tokens");

    for (query, want) in [
        ("", &["mine", "other", "theirs"][..]),
        ("?user=apimtst", &["other", "theirs"]),
        ("?user=USER&name=MIN", &["mine"]),
        ("?name=the", &["other", "theirs"]),
        ("?service=DCPASSTICKET&user=USER", &["mine"]),
        ("?service=unknown", &[]),
        ("?state=revoked", &[]),
        ("?state=all&name=mine", &["mine"]),
        ("?user=NOBODY", &[]),
    ] {
        let page = browser.get(&format!("/admin/tokens{query}")).await;
        let mut names = page.names();
        names.sort();
        assert_eq!(page.status, 200, "{query}");
        assert_eq!(names, want, "{query}: {}", page.text);
    }
    for (query, field) in [("?user=a.b", "user-fault"), ("?service=a/b", "service-fault")] {
        let page = browser.get(&format!("/admin/tokens{query}")).await;
        assert_eq!(page.status, 400);
        assert!(page.element(field).starts_with("Enter a "), "{}", page.text);
    }
    assert_eq!(
        browser.get("/admin/tokens?user=USER&cursor=x").await.location(),
        "/gateway/ui/admin/tokens?user=USER"
    );

    let id = user.id_of("theirs").await;
    let path = format!("/admin/tokens/{id}");
    let page = browser.get(&format!("{path}?user=APIMTST")).await;
    assert_eq!(page.element("owner"), "APIMTST");
    assert!(page.text.contains("of another") && !page.text.contains(&pat), "{}", page.text);
    for wrong in [&path, &format!("{path}?user=USER")] {
        let page = browser.get(wrong).await;
        assert_eq!(page.status, 404, "{wrong}");
        assert!(page.text.contains("Token not found"), "{}", page.text);
    }
    // An administrator can neither rename nor replace the token of another user.
    for page in ["edit", "rotate"] {
        assert_eq!(browser.get(&format!("/tokens/{id}/{page}")).await.status, 404);
    }

    let form = browser.get(&format!("{path}/revoke?user=APIMTST")).await;
    assert!(form.text.contains("Each tool that uses this token of APIMTST"), "{}", form.text);
    assert_eq!(routed(&demo, &pat).await, 200);
    let revoke = format!("{path}/revoke");
    let page = browser.post(&revoke, &form.form_key(), &[("user", "APIMTST")]).await;
    assert_eq!(page.location(), "/gateway/ui/admin/tokens?user=APIMTST&state=all&done=revoked");
    assert_eq!(routed(&demo, &pat).await, 401);
    let location = page.location().to_owned();
    let page = browser.get(&location).await;
    assert!(page.element("notice").starts_with("The token is revoked."), "{}", page.text);
    assert_eq!(browser.get("/admin/tokens?state=revoked").await.names(), ["theirs"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preview_of_a_rule_shows_what_the_rule_then_revokes() {
    let demo = Demo::start();
    let mut user = ordinary(&demo).await;
    let mut browser = Browser::signed_in(&demo).await;
    let one = user.create("one", &[]).await.element("token");
    user.create("two", &[]).await;
    let mine = browser.create("mine", &[]).await.element("token");

    let page = browser.get("/admin/rule").await;
    assert!(page.text.contains("id=\"preview\"") && !page.text.contains("id=\"submit\""));
    for (query, field, want) in [
        ("?of=user&user=a.b", "user", "Enter a user id"),
        ("?of=user", "user", "Enter a user id"),
        ("?of=service&service=a/b", "service", "Enter a service id"),
        ("?of=user&user=APIMTST&up-to=2999-01-01T00:00", "up-to", "The time is in the future."),
        ("?of=user&user=APIMTST&up-to=yesterday", "up-to", "Enter a date and a time"),
    ] {
        let page = browser.get(&format!("/admin/rule{query}")).await;
        assert_eq!(page.status, 400, "{query}");
        let fault = page.element(&format!("{field}-fault"));
        assert!(fault.starts_with(want), "{query}: {fault}");
        let key = page.form_key();
        let fields = Fields::of(query);
        let page = browser.post("/admin/rule", &key, &fields.as_pairs()).await;
        assert_eq!(page.status, 400, "{query}");
    }

    // The tokens were issued after the time of the rule, so the rule revokes no token.
    let query = "?of=user&user=APIMTST&up-to=2020-01-01T00:00";
    let preview = browser.get(&format!("/admin/rule{query}")).await;
    assert_eq!(preview.element("count"), "The rule revokes no active token in the list.");
    let fields = Fields::of(query);
    let page = browser.post("/admin/rule", &preview.form_key(), &fields.as_pairs()).await;
    assert_eq!(page.status, 303, "{}", page.text);
    assert_eq!(routed(&demo, &one).await, 200);

    let preview = browser.get("/admin/rule?user=apimtst").await;
    assert_eq!(preview.status, 200, "{}", preview.text);
    assert_eq!(preview.element("count"), "The rule revokes 2 active tokens.");
    assert_eq!(preview.names(), ["two", "one"]);
    assert!(preview.text.contains("may not know tokens of other gateways"));
    assert_eq!(routed(&demo, &one).await, 200);
    let fields = [("of", "user"), ("user", "apimtst")];
    let page = browser.post("/admin/rule", &preview.form_key(), &fields).await;
    assert_eq!(page.location(), "/gateway/ui/admin/tokens?user=APIMTST&state=all&done=rule-made");
    let location = page.location().to_owned();
    let page = browser.get(&location).await;
    assert!(page.element("notice").starts_with("The tokens are revoked."), "{}", page.text);
    assert_eq!(page.text.matches("class=\"state revoked\"").count(), 2);
    assert_eq!(routed(&demo, &one).await, 401);
    assert_eq!(routed(&demo, &mine).await, 200);

    // A rule for a service revokes the tokens of all users for this service.
    let new = user.create("new", &[]).await.element("token");
    let preview = browser.get("/admin/rule?of=service&service=DCPASSTICKET").await;
    assert_eq!(preview.element("count"), "The rule revokes 2 active tokens.");
    assert_eq!(preview.names(), ["new", "mine"]);
    let fields = [("of", "service"), ("service", "dcpassticket")];
    let page = browser.post("/admin/rule", &preview.form_key(), &fields).await;
    assert_eq!(
        page.location(),
        "/gateway/ui/admin/tokens?service=dcpassticket&state=all&done=rule-made"
    );
    for pat in [&new, &mine] {
        assert_eq!(routed(&demo, pat).await, 401);
    }
    // The gateway writes audit records after at most one second.
    let deadline = std::time::Instant::now() + test_support::PATIENCE;
    let rules = || {
        let audit = std::fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
        audit.matches("\"event\":\"rule-made\",\"outcome\":\"success\"").count()
    };
    while rules() < 3 && std::time::Instant::now() < deadline {
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(rules(), 3);
}

struct Fields(Vec<(String, String)>);

impl Fields {
    fn of(query: &str) -> Self {
        let pairs = query.trim_start_matches('?').split('&');
        let pair = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
        Self(pairs.map(|it| pair(it.split_once('=').unwrap())).collect())
    }

    fn as_pairs(&self) -> Vec<(&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_remove_expired_revocations() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    // A rule that is older than the longest validity of a PAT has no effect any more, so it can be removed.
    let query = "?of=user&user=APIMTST&up-to=2020-01-01T00:00";
    let key = browser.get(&format!("/admin/rule{query}")).await.form_key();
    browser.post("/admin/rule", &key, &Fields::of(query).as_pairs()).await;

    let page = browser.get("/admin/evict").await;
    assert!(page.text.contains("id=\"submit\"") && !page.text.contains("id=\"evicted\""));
    let page = browser.submit("/admin/evict", &[]).await;
    assert_eq!(page.location(), "/gateway/ui/admin/evict?tokens=0&users=1&services=0");
    let location = page.location().to_owned();
    let page = browser.get(&location).await;
    assert!(page.element("evicted").contains("rules for users: 1,"), "{}", page.text);
    let page = browser.get("/admin/evict?tokens=%3Cscript%3E&users=1&services=0").await;
    assert!(!page.text.contains("id=\"evicted\""));

    // A user with only the permission READ may not remove expired revocations.
    let saf = |yaml: &str| yaml.replacen("      UPDATE:\n        - USER\n", "", 1);
    let demo = Demo::with_files(|directory, yaml| {
        let file = directory.join("saf.yml");
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(file, saf(&text)).unwrap();
        yaml
    });
    let mut browser = Browser::signed_in(&demo).await;
    let page = browser.get("/admin/evict").await;
    assert!(page.text.contains("id=\"not-permitted\""), "{}", page.text);
    let page = browser.post("/admin/evict", &page.form_key(), &[]).await;
    assert_eq!(page.status, 403, "{}", page.text);
    assert_eq!(page.element("message-number"), "ZWEAT403E");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_get_403_on_each_page_of_administrators() {
    let demo = Demo::start();
    let mut browser = ordinary(&demo).await;
    let pat = browser.create("mine", &[]).await.element("token");
    let id = browser.id_of("mine").await;
    let page = browser.get("/tokens").await;
    assert!(!page.text.contains("nav-admin"), "{}", page.text);
    // The page has checked the permissions of the user, to find out which links it shows. The user has not tried to use
    // a permission, so the audit log has no refusal.
    let audit = || std::fs::read_to_string(demo.directory.join("audit.jsonl")).unwrap();
    assert!(!audit().contains("saf-refused"), "{}", audit());

    let (token, revoke) = (format!("/admin/tokens/{id}"), format!("/admin/tokens/{id}/revoke"));
    // Without the permission, the user cannot open a page of administrators, even for the user's own token.
    let of_token = [format!("{token}?user=APIMTST"), format!("{revoke}?user=APIMTST")];
    let pages = PAGES.into_iter().chain(of_token.iter().map(String::as_str));
    for path in pages {
        let page = browser.get(path).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(page.text.contains("This page is for administrators"), "{}", page.text);
        assert!(page.element("detail").contains("READ on APIML.SERVICES"), "{}", page.text);
        assert_eq!(page.element("message-number"), "ZWEAT403E");
        assert_eq!(page.element("request-id"), page.headers["x-request-id"].to_str().unwrap());
        assert!(!page.text.contains("nav-admin") && !page.text.contains("id=\"tokens\""));
    }
    let key = browser.get("/tokens/new").await.form_key();
    for (path, fields) in [
        (&*revoke, &[("user", "APIMTST")][..]),
        ("/admin/rule", &[("of", "user"), ("user", "APIMTST")]),
        ("/admin/rule", &[("of", "service"), ("service", "dcpassticket")]),
        ("/admin/evict", &[]),
    ] {
        assert_eq!(browser.post(path, &key, fields).await.status, 403, "{path}");
    }
    assert_eq!(routed(&demo, &pat).await, 200);
    assert_eq!(browser.get("/admin/x").await.status, 404);

    // Without a session, each page redirects to the sign-in page.
    let mut nobody = Browser::new(&demo);
    for path in PAGES {
        assert_eq!(nobody.get(path).await.location(), "/gateway/ui/sign-in", "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_of_administrators_need_the_key_of_their_session() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    let pat = browser.create("mine", &[]).await.element("token");
    let id = browser.id_of("mine").await;
    let revoke = format!("/admin/tokens/{id}/revoke");
    let foreign = Browser::signed_in(&demo).await.get("/tokens/new").await.form_key();
    for path in [&*revoke, "/admin/rule", "/admin/evict"] {
        let fields = [("of", "user"), ("user", "USER")];
        for key in ["", &foreign] {
            let page = browser.post(path, key, &fields).await;
            assert_eq!(page.status, 403, "{path}");
            assert!(page.text.contains("The form is not valid"), "{}", page.text);
        }
        let key = browser.get("/admin/evict").await.form_key();
        let page = browser.post_from("https://evil.example", path, &key, &fields).await;
        assert_eq!(page.status, 403, "{path}");
        assert!(page.text.contains("came from another site"), "{}", page.text);
    }
    // A GET of the address with the values of the rule does not make the rule.
    browser.get("/admin/rule?of=user&user=USER").await;
    assert_eq!(routed(&demo, &pat).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_users_write_is_markup_for_administrators() {
    let demo = Demo::start();
    let mut user = ordinary(&demo).await;
    user.create(&MARKUP[..60], &[("description", MARKUP)]).await;
    let page = user.get("/tokens").await;
    let id = page.text.split("id=\"token-").nth(1).unwrap()[..32].to_owned();
    let mut browser = Browser::signed_in(&demo).await;
    let markup: String = MARKUP.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for path in [
        "/admin/tokens".to_owned(),
        format!("/admin/tokens/{id}?user=APIMTST"),
        format!("/admin/tokens/{id}/revoke?user=APIMTST"),
        "/admin/rule?user=APIMTST".to_owned(),
    ] {
        let page = browser.get(&path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.text.contains("&lt;script&gt;alert(1)"), "{path}: {}", page.text);
    }
    for path in [
        format!("/admin/tokens?user={markup}"),
        format!("/admin/tokens?name={markup}"),
        format!("/admin/tokens?service={markup}"),
        format!("/admin/rule?user={markup}"),
        format!("/admin/rule?service={markup}&of=service"),
        format!("/admin/rule?user=USER&up-to={markup}"),
        format!("/admin/tokens/{id}?user={markup}"),
        format!("/admin/evict?tokens={markup}"),
    ] {
        browser.get(&path).await;
    }
}

/// Opens the audit page until it contains `want`. This may take a moment, because another thread writes the audit file.
async fn audit_with(browser: &mut Browser, query: &str, want: &str) -> Page {
    for _ in 0..100 {
        let page = browser.get(&format!("/admin/audit{query}")).await;
        assert_eq!(page.status, 200, "{}", page.text);
        if page.text.contains(want) {
            return page;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("no {want} in the audit log for {query}");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_read_the_last_audit_records() {
    let demo = Demo::start();
    let mut user = ordinary(&demo).await;
    user.create("theirs", &[]).await;
    let mut browser = Browser::signed_in(&demo).await;
    browser.sign_in("USER", "wrong").await;
    let mut browser = Browser::signed_in(&demo).await;
    let page = audit_with(&mut browser, "?event=token-minted", "rowheader\">token-minted").await;
    assert!(page.text.contains("dcpassticket") && page.text.contains(">APIMTST<"), "{}", page.text);
    assert!(!page.text.contains("rowheader\">login"), "{}", page.text);
    let page = audit_with(&mut browser, "?outcome=refused&user=user", "wrong-password").await;
    assert!(!page.text.contains("rowheader\">token-minted"), "{}", page.text);
    let page = browser.get("/admin/audit").await;
    assert!(!page.text.contains("rowheader\">authentication"), "{}", page.text);
    audit_with(&mut browser, "?event=all", "rowheader\">authentication").await;
    let page = browser.get("/admin/audit?user=NOBODY&event=x&outcome=y&file=z").await;
    assert!(page.text.contains("No record matches the filter."), "{}", page.text);
    // The other audit file contains the requests that were not authenticated.
    let anonymous = demo.client().get(demo.auth("query")).send().await.unwrap();
    assert_eq!(anonymous.status(), 401);
    audit_with(&mut browser, "?file=unauthenticated", "no-credential").await;

    // The page shows texts of clients as text, not as markup. It reports a line that is not a complete record.
    let path = "%3Cscript%3Ealert(1)%3C/script%3E";
    let request = demo.client().get(demo.at(&format!("/dcpassticket/api/v1/{path}")));
    request.header("user-agent", MARKUP).header("private-token", "x").send().await.unwrap();
    let mut record = serde_json::json!({ "time": "2027-01-15T08:00:00.000Z", "event": MARKUP });
    for field in [
        "outcome",
        "reason",
        "user",
        "target",
        "service",
        "applid",
        "client",
        "method",
        "path",
        "request_id",
        "other",
    ] {
        record[field] = MARKUP.into();
    }
    record["certificate"] = serde_json::json!({ "subject": MARKUP });
    let lines = format!("{record}\n{{\"time\":\n");
    let file = demo.directory.join("audit.jsonl");
    let mut file = std::fs::OpenOptions::new().append(true).open(file).unwrap();
    std::io::Write::write_all(&mut file, lines.as_bytes()).unwrap();
    let page = audit_with(&mut browser, "", "&lt;script&gt;alert(1)").await;
    assert!(page.text.matches("&lt;script&gt;alert(1)").count() >= 13, "{}", page.text);
    assert!(page.element("unreadable").starts_with("1 line is not a record"), "{}", page.text);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_page_says_how_to_switch_the_audit_log_on() {
    let without = |yaml: String| {
        let yaml = yaml.replace("delegatePassticket: true", "delegatePassticket: false");
        without_exchange(&yaml).replace("      file: audit.jsonl\n", "      enabled: false\n")
    };
    let demo = Demo::reconfigured(without);
    let mut browser = Browser::signed_in(&demo).await;
    let page = browser.get("/admin/audit").await;
    assert_eq!(page.status, 200, "{}", page.text);
    let text = page.element("audit-off");
    assert!(text.contains("components.passticket-proxy.audit.enabled"), "{text}");

    let demo = Demo::reconfigured(|yaml| {
        yaml.replace("      file: audit.jsonl\n", "      file: audit.cef\n      format: cef\n")
    });
    let mut browser = Browser::signed_in(&demo).await;
    for _ in 0..100 {
        let page = browser.get("/admin/audit").await;
        if page.text.contains("id=\"audit-cef\"") {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("the page does not say that it cannot read the format");
}

#[tokio::test(flavor = "multi_thread")]
async fn administrators_see_the_health_of_the_gateway() {
    let demo = Demo::start();
    let mut browser = Browser::signed_in(&demo).await;
    let page = browser.get("/admin/health").await;
    assert_eq!(page.status, 200);
    for part in ["workers", "revocations", "audit", "certificate", "configuration"] {
        assert!(page.text.contains(&format!("id=\"part-{part}\"")), "{part}: {}", page.text);
    }
    assert!(page.text.contains("<span id=\"health-status\"><span class=\"state active\">Up<"));
    assert!(page.text.contains("This gateway runs alone."), "{}", page.text);
}
