// Checks the token page in Chromium: each function of the page (with JavaScript, without JavaScript, and with a client
// certificate), attacks from other sites, attacks by stored texts, and accessibility.

import assert from "node:assert/strict";
import { mkdtempSync, readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import { tmpdir } from "node:os";
import { join } from "node:path";
import axe from "axe-core";
import { request } from "playwright-core";
import { Gateway, PASSWORD, createToken, signIn, startBrowser } from "./gateway.mjs";

const WIDE = { width: 1280, height: 800 };
const NARROW = { width: 375, height: 800 };
// The minimum width at which a page must need no horizontal scrolling (WCAG 2.2, 1.4.10).
const NARROWEST = { width: 320, height: 800 };

// Texts that run a script if a page does not escape them. A name has at most 64 characters.
const ATTACKS = [
  "<script>alert(1)</script>",
  "\"'><img src=x onerror=alert(2)>",
  "</textarea></title><svg onload=alert(3)>",
  "' autofocus onfocus=alert(4) x='",
  "javascript:alert(5)//&lt;b&gt;&#60;",
];

// Definitions of a service whose title and description are attacks, and of enough other services that the page offers a
// search.
const SERVICES = [
  ["hostile", ATTACKS.join(" "), ATTACKS.join(" ")],
  ...Array.from({ length: 8 }, (_, number) => [`service${number}`, `Service ${number}`, `Number ${number}`]),
].map(([id, title, description]) => `  - serviceId: ${id}
    title: ${JSON.stringify(title)}
    description: ${JSON.stringify(description)}
    instanceBaseUrls: [https://localhost:1/${id}]
    routes: [{ gatewayUrl: api/v1, serviceRelativeUrl: / }]
    authentication: { scheme: bypass }
`).join("");

const program = process.argv[2];
if (!program) throw new Error("the path of the program is missing: .ci/page/run PROGRAM");

// Opens a window with its own cookies, and gives its page to `act`. Fails if a page runs a script that is not the
// gateway's own, shows a dialogue, violates its content security policy or loads something from elsewhere. After a
// failure, writes a screenshot.
async function visit(browser, gateway, options, act) {
  const context = await browser.newContext({ ignoreHTTPSErrors: true, viewport: WIDE, ...options });
  context.setDefaultTimeout(20_000);
  const faults = [];
  context.on("page", (page) => {
    page.on("dialog", (dialog) => {
      faults.push(`dialogue: ${dialog.message()}`);
      dialog.dismiss().catch(() => {});
    });
    page.on("pageerror", (error) => faults.push(`error in a script: ${error}`));
    page.on("console", (message) => {
      if (/Content.Security.Policy/i.test(message.text())) faults.push(message.text());
    });
    page.on("request", (sent) => {
      if (!sent.url().startsWith(`${gateway.origin}/`)) faults.push(`request to ${sent.url()}`);
    });
  });
  const page = await context.newPage();
  try {
    await act({ page, context, gateway, faults });
    assert.deepEqual(faults, []);
  } catch (error) {
    const path = join(mkdtempSync(join(tmpdir(), "token-page-failure-")), "page.png");
    const taken = await page.screenshot({ path, timeout: 5000 }).then(() => path, () => "not possible");
    error.message += `\nThe page is ${page.url()}. Its screenshot is ${taken}.`;
    throw error;
  } finally {
    await context.close();
  }
}

// Asks the service of the demo with a token. Returns the status.
async function statusWith(gateway, token) {
  const client = await request.newContext({ ignoreHTTPSErrors: true });
  const headers = { "private-token": token };
  const answer = await client.get(`${gateway.origin}/dcpassticket/api/v1/passticketTest`, { headers });
  await client.dispose();
  return answer.status();
}

const textOf = (page, selector) => page.locator(selector).first().innerText();

async function assertText(page, selector, expected) {
  const text = await textOf(page, selector);
  assert.ok(text.includes(expected), `${selector}: "${text}" does not contain "${expected}"`);
}

// Opens a page of the token with this name, by the links that a user follows.
async function openToken(page, gateway, name, link) {
  await page.goto(`${gateway.ui}/tokens?state=all`);
  await page.getByRole("link", { name, exact: true }).click();
  if (link) await page.click(link);
}

// Does everything that the page offers, as a user does it.
async function everyFunction({ page, gateway }, { certificate }) {
  await page.goto(gateway.ui);
  assert.equal(page.url(), `${gateway.ui}/sign-in`);
  assert.equal(await page.locator("#use-certificate").count(), certificate ? 1 : 0);

  await page.fill("#user", "USER");
  await page.fill("#password", "wrong");
  await page.click("#submit");
  await assertText(page, "#trouble", "The user id or the password is wrong");
  assert.equal(await page.inputValue("#user"), "USER");
  assert.equal(await page.inputValue("#password"), "");
  assert.notEqual(await textOf(page, "#request-id"), "");
  if (certificate) {
    await page.click("#use-certificate");
  } else {
    await page.fill("#password", PASSWORD);
    await page.keyboard.press("Enter");
  }
  await page.waitForURL(`${gateway.ui}/tokens`);
  await assertText(page, "#signed-in-user", "USER");
  await assertText(page, "#empty", "You have no active tokens");

  // A form with faults keeps the input of the user.
  await page.locator("#create").click();
  await page.fill("#name", "Jenkins");
  await page.click("#submit");
  await assertText(page, "#problems", "Choose at least one service");
  await page.getByRole("link", { name: "Choose at least one service." }).click();
  assert.equal(await page.inputValue("#name"), "Jenkins");

  await page.fill("#description", "Nightly build");
  await page.check("input[name=service][value=dcpassticket]");
  await page.check("input[name=expiry][value='7']");
  await page.click("#submit");
  const first = await page.inputValue("#token");
  assert.equal(await statusWith(gateway, first), 200);
  for (const id of ["variable", "curl", "git", "jenkins", "zowe"]) {
    const command = await textOf(page, `#command-${id}`);
    assert.ok(!command.includes(first), command);
    if (id !== "variable") assert.ok(command.includes("localhost"), command);
  }
  await page.click("#done");
  await assertText(page, "#tokens", "Nightly build");
  assert.ok(!(await page.content()).includes(first), "only one page shows the token");

  // A token that expires on a date.
  await page.click("#create");
  await page.fill("#name", "git");
  await page.check("input[name=service][value=dcpassticket]");
  await page.check("#expiry-date");
  await page.fill("#date", await page.getAttribute("#date", "min"));
  await page.click("#submit");
  await page.locator("#token").waitFor();

  // The list.
  await page.goto(`${gateway.ui}/tokens`);
  await page.fill("#name", "jenk");
  await page.selectOption("#state", "all");
  await page.selectOption("#sort", "name");
  await page.click("#apply");
  await page.waitForURL(/name=jenk/);
  assert.equal(await page.locator("#tokens tbody tr").count(), 1);
  assert.equal(await page.inputValue("#state"), "all");
  assert.equal(await page.inputValue("#sort"), "name");

  // Change one token.
  await openToken(page, gateway, "Jenkins", "#edit");
  await page.fill("#name", "");
  // The browser itself requires a name.
  await page.click("#submit");
  assert.ok(page.url().endsWith("/edit"));
  await page.fill("#name", "Jenkins 2");
  await page.fill("#description", "");
  await page.click("#submit");
  await assertText(page, "#notice", "The token is changed");
  await assertText(page, "h1", "Jenkins 2");

  await page.click("#rotate");
  await page.selectOption("#grace", "0");
  await page.click("#submit");
  const second = await page.inputValue("#token");
  assert.notEqual(second, first);
  assert.equal(await statusWith(gateway, second), 200);

  await page.goto(`${gateway.ui}/tokens`);
  await page.getByRole("link", { name: "Revoke Jenkins 2", exact: true }).click();
  await assertText(page, "h1", "Jenkins 2");
  assert.equal(await statusWith(gateway, second), 200, "only the confirmation revokes");
  await page.click("#submit");
  await assertText(page, "#notice", "The token is revoked");
  assert.equal(await statusWith(gateway, second), 401);

  const third = await createToken(page, gateway, { name: "third" });
  await page.goto(`${gateway.ui}/tokens`);
  await page.click("#revoke-all");
  await assertText(page, "#count", "You have 2 active tokens");
  assert.equal(await statusWith(gateway, third), 200, "only the confirmation revokes");
  await page.click("#submit");
  await assertText(page, "#notice", "All your tokens are revoked");
  assert.equal(await statusWith(gateway, third), 401);

  await page.click("#sign-out");
  await assertText(page, "#notice", "You are signed out");
  await page.goto(`${gateway.ui}/tokens`);
  assert.equal(page.url(), `${gateway.ui}/sign-in`);
}

// Checks the functions that need JavaScript.
async function comfort({ page, context, gateway }) {
  await context.grantPermissions(["clipboard-read", "clipboard-write"], { origin: gateway.origin });
  await signIn(page, gateway);
  await page.goto(`${gateway.ui}/tokens/new`);
  // The search hides services that do not match, except those that are chosen.
  const shown = () => page.locator("input[name=service]:visible").evaluateAll((all) => all.map((it) => it.value));
  const all = (await shown()).length;
  await page.check("input[name=service][value=service1]");
  await page.fill("#find-service", "number 3");
  assert.deepEqual((await shown()).sort(), ["service1", "service3"]);
  await page.keyboard.press("Enter");
  assert.ok(page.url().endsWith("/new"), "Enter in the search sends no form");
  await page.fill("#find-service", "");
  assert.equal((await shown()).length, all);
  // The date appears when it is chosen.
  assert.ok(await page.isHidden("#date"));
  await page.check("#expiry-date");
  await page.fill("#date", await page.getAttribute("#date", "max"));
  await page.fill("#name", "copied");
  await page.click("#submit");
  // The buttons copy the token and the commands.
  const clipboard = () => page.evaluate(() => navigator.clipboard.readText());
  await page.click("button[data-copy=token]");
  assert.equal(await clipboard(), await page.inputValue("#token"));
  await assertText(page, "button[data-copy=token]", "Copied");
  await page.click("button[data-copy=command-curl]");
  assert.equal(await clipboard(), await page.locator("#command-curl").textContent());
  // The summary of problems gets the focus.
  await page.goto(`${gateway.ui}/tokens/new`);
  await page.fill("#name", "x");
  await page.click("#submit");
  await page.waitForFunction(() => document.activeElement.id === "problems");
  // A double click creates one token.
  await page.check("input[name=service][value=service1]");
  await page.fill("#name", "double");
  await page.locator("#submit").dblclick();
  await page.locator("#token").waitFor();
  await page.goto(`${gateway.ui}/tokens?name=double`);
  assert.equal(await page.locator("#tokens tbody tr").count(), 1);
}

// Uses only the keyboard, from the sign-in to the form for a token.
async function keyboard({ page, gateway }) {
  const focused = () => page.evaluate(() => {
    const at = document.activeElement;
    return at.id || at.textContent.trim();
  });
  // Presses Tab until the element with this id has the focus.
  const reach = async (id) => {
    for (let presses = 0; presses < 40; presses += 1) {
      await page.keyboard.press("Tab");
      if (await focused() === id) {
        const outline = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
        return assert.notEqual(outline, "none", `the focus on ${id} is visible`);
      }
    }
    assert.fail(`Tab does not reach ${id}`);
  };
  await page.goto(`${gateway.ui}/sign-in`);
  assert.equal(await focused(), "user", "the first field has the focus");
  await page.keyboard.type("USER");
  await reach("password");
  await page.keyboard.type(PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForURL(`${gateway.ui}/tokens`);
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the content");
  assert.ok(await page.locator(".skip").evaluate((link) => link.getBoundingClientRect().top >= 0), "the skip link shows");
  await page.keyboard.press("Enter");
  assert.equal(await focused(), "content");
  await reach("create");
  await page.keyboard.press("Enter");
  await page.waitForURL(`${gateway.ui}/tokens/new`);
  await reach("name");
  await page.keyboard.type("typed");
  for (let presses = 0; presses < 40 && await page.evaluate(() => document.activeElement.name) !== "service";) {
    presses += 1;
    await page.keyboard.press("Tab");
  }
  await page.keyboard.press("Space");
  assert.equal(await page.locator("input[name=service]:checked").count(), 1);
  await reach("submit");
  await page.keyboard.press("Enter");
  await page.locator("#token").waitFor();
  await reach("token");
  await reach("done");
}

// Each attack, in each field that a user can write, must come back as the same text.
async function storedTexts({ page, gateway }) {
  for (const attack of ATTACKS) {
    await page.goto(`${gateway.ui}/sign-in`);
    await page.fill("#user", attack);
    await page.fill("#password", attack);
    await page.click("#submit");
    assert.equal(await page.inputValue("#user"), attack);
    await page.locator("#problems").waitFor();
  }
  for (const query of ["done", "change", "x"]) {
    await page.goto(`${gateway.ui}/sign-in?${query}=${encodeURIComponent(ATTACKS.join(""))}`);
    await page.locator("#password").waitFor();
  }
  await signIn(page, gateway);
  for (const attack of ATTACKS) {
    const services = ["hostile", "dcpassticket"];
    await createToken(page, gateway, { name: attack, description: attack, services });
    await assertIncludes(page, attack);
    await page.goto(`${gateway.ui}/tokens?name=${encodeURIComponent(attack)}`);
    assert.equal(await page.inputValue("#name"), attack);
    const row = page.locator("#tokens tbody tr");
    assert.equal(await row.count(), 1);
    assert.equal(await row.getByRole("link", { name: attack, exact: true }).innerText(), attack);
    assert.equal(await row.locator(".sub").first().innerText(), attack);
    await row.getByRole("link", { name: attack, exact: true }).click();
    assert.equal(await textOf(page, "h1"), attack);
    assert.ok((await page.title()).startsWith(attack));
    const token = page.url();
    for (const form of ["edit", "rotate", "revoke"]) {
      await page.goto(`${token}/${form}`);
      if (form === "edit") {
        assert.equal(await page.inputValue("#name"), attack);
        assert.equal(await page.inputValue("#description"), attack);
        await page.fill("#description", `${attack} `);
        await page.click("#submit");
        await page.locator("#notice").waitFor();
      } else {
        await assertIncludes(page, attack);
      }
    }
    // A form with a fault shows the input of the user.
    await page.goto(`${gateway.ui}/tokens/new`);
    await assertIncludes(page, ATTACKS.join(" "));
    await page.fill("#name", attack);
    await page.fill("#description", attack);
    await page.click("#submit");
    await page.locator("#problems").waitFor();
    assert.equal(await page.inputValue("#name"), attack);
    assert.equal(await page.inputValue("#description"), attack);
  }
  // Attacks in the URL.
  const text = encodeURIComponent(ATTACKS.join(""));
  for (const path of ["tokens?state=", "tokens?sort=", "tokens?cursor=", "tokens?done=", "tokens/", "assets/", ""]) {
    await page.goto(`${gateway.ui}/${path}${text}`);
    await page.locator("h1").waitFor();
  }
  // The form was changed in the browser: it sends values that the page does not offer.
  await page.goto(`${gateway.ui}/tokens/new`);
  await page.fill("#name", "x");
  await page.locator("input[name=service]").first().evaluate((field, value) => { field.value = value; }, ATTACKS[1]);
  await page.locator("input[name=service]").first().check();
  await page.locator("#expiry-date").check();
  await page.locator("#date").evaluate((field, value) => { field.type = "text"; field.value = value; }, ATTACKS[1]);
  await page.click("#submit");
  await page.locator("#problems").waitFor();
}

async function assertIncludes(page, text) {
  assert.ok((await page.locator("body").innerText()).includes(text), `the page shows ${text}`);
}

// The paths of the pages for administrators.
const ADMINISTRATION = ["", "/tokens", "/rule", "/evict", "/audit", "/health"];

// Other users have no pages for administrators.
async function noAdministration({ page, gateway }) {
  await signIn(page, gateway, "APIMTST");
  assert.equal(await page.locator("#nav-admin").count(), 0);
  for (const path of ADMINISTRATION) {
    const answer = await page.goto(`${gateway.ui}/admin${path}`);
    assert.equal(answer.status(), 403, path);
    assert.notEqual(await textOf(page, "#request-id"), "");
  }
}

// Uses each function of the pages for administrators.
async function administration({ page, gateway }) {
  await signIn(page, gateway, "APIMTST");
  const tokens = [];
  for (const name of ["first", "second", "third"]) tokens.push(await createToken(page, gateway, { name }));
  await page.click("#sign-out");
  await signIn(page, gateway);
  const own = await createToken(page, gateway, { name: "own" });

  // Search, and revoke one token.
  await page.goto(`${gateway.ui}/tokens`);
  await page.click("#nav-admin");
  await page.fill("input#user", "APIMTST");
  await page.click("#apply");
  await page.waitForURL(/user=APIMTST/);
  assert.equal(await page.locator("#tokens tbody tr").count(), 3);
  await page.fill("#name", "first");
  await page.click("#apply");
  await page.waitForURL(/name=first/);
  assert.equal(await page.locator("#tokens tbody tr").count(), 1);
  await page.getByRole("link", { name: "first", exact: true }).click();
  await assertText(page, "#owner", "APIMTST");
  await page.click("#revoke");
  assert.equal(await statusWith(gateway, tokens[0]), 200, "only the confirmation revokes");
  await page.click("#submit");
  await page.locator("#notice").waitFor();
  assert.deepEqual(await statusesWith(gateway, [...tokens, own]), [401, 200, 200, 200]);

  // The preview of a rule changes nothing. The rule revokes what the preview shows.
  await page.goto(`${gateway.ui}/admin/rule`);
  await page.fill("input#user", "APIMTST");
  await page.click("#preview");
  await assertText(page, "#count", "2 active tokens");
  assert.equal(await page.locator("#tokens tbody tr").count(), 2);
  assert.deepEqual(await statusesWith(gateway, [...tokens, own]), [401, 200, 200, 200]);
  await page.click("#submit");
  await page.locator("#notice").waitFor();
  assert.deepEqual(await statusesWith(gateway, [...tokens, own]), [401, 401, 401, 200]);
  await page.goto(`${gateway.ui}/admin/rule`);
  await page.check("input[name=of][value=service]");
  await page.fill("#service", "dcpassticket");
  await page.click("#preview");
  await assertText(page, "#count", "1 active token");
  await page.click("#submit");
  await page.locator("#notice").waitFor();
  assert.equal(await statusWith(gateway, own), 401);

  await page.goto(`${gateway.ui}/admin/evict`);
  await page.click("#submit");
  await page.locator("#evicted").waitFor();
  await page.goto(`${gateway.ui}/admin/health`);
  await assertText(page, "#health-status", "Up");
  // The gateway writes audit records after at most one second.
  const minted = page.locator("#records tbody tr", { hasText: "token-minted" });
  for (let tries = 0; tries < 20 && await minted.count() < 4; tries += 1) {
    await page.goto(`${gateway.ui}/admin/audit?event=token-minted`);
    await page.waitForTimeout(200);
  }
  assert.equal(await minted.count(), 4);
}

const statusesWith = (gateway, tokens) => Promise.all(tokens.map((token) => statusWith(gateway, token)));

// Texts in the audit log, which anybody can write, run no script.
async function auditedTexts({ page, gateway }) {
  const client = await request.newContext({ ignoreHTTPSErrors: true });
  for (const attack of ATTACKS) {
    const headers = { "user-agent": attack, "x-request-id": attack, "x-forwarded-for": attack };
    const data = { username: attack, password: attack };
    await client.post(`${gateway.origin}/gateway/api/v1/auth/login`, { headers, data });
    await client.get(`${gateway.origin}/dcpassticket/api/v1/${attack}?${attack}`, { headers });
    await client.get(`${gateway.origin}/dcpassticket/api/v1/x`, { headers: { ...headers, "private-token": attack } });
  }
  await client.dispose();
  await signIn(page, gateway);
  for (const attack of ATTACKS) await createToken(page, gateway, { name: attack, description: attack });
  await page.waitForTimeout(2500);
  for (const file of [0, 1]) {
    await page.goto(`${gateway.ui}/admin/audit?event=all`);
    await page.selectOption("#file", { index: file });
    await page.click("#apply");
    await page.locator("#records tbody tr").first().waitFor();
    for (const details of await page.locator("summary").all()) await details.click();
  }
  const text = encodeURIComponent(ATTACKS.join(""));
  for (const path of ["audit?user=", "audit?event=", "audit?file=", "tokens?user=", "tokens?name=", "tokens?service=",
    "tokens?cursor=", "rule?of=user&user=", "rule?of=service&service=", "rule?of=", "rule?of=user&user=USER&up-to="]) {
    await page.goto(`${gateway.ui}/admin/${path}${text}`);
    await page.locator("h1").waitFor();
  }
  for (const path of ["tokens?user=USER", "rule?of=user&user=USER"]) {
    await page.goto(`${gateway.ui}/admin/${path}`);
    for (const attack of ATTACKS) await assertIncludes(page, attack);
  }
}

// Web servers of an attacker: one at another site, and one at another port of the host of the gateway.
class Attacker {
  static async start(gateway) {
    const attacker = new Attacker();
    const { certPath, keyPath } = gateway.certificate("localhost");
    const tls = { cert: readFileSync(certPath), key: readFileSync(keyPath) };
    const serve = (_, response) => {
      response.writeHead(200, { "content-type": "text/html", ...attacker.headers });
      response.end(`<!doctype html><title>attack</title>${attacker.html}`);
    };
    attacker.servers = [http.createServer(serve), https.createServer(tls, serve)];
    for (const server of attacker.servers) {
      await new Promise((done) => { server.listen(0, "127.0.0.1", done); });
    }
    const [other, same] = attacker.servers.map((server) => server.address().port);
    attacker.otherSite = `http://127.0.0.1:${other}/`;
    attacker.otherPort = `https://localhost:${same}/`;
    return attacker;
  }

  // Sets the HTML of the page that both servers send.
  serve(html, headers = {}) {
    this.html = html;
    this.headers = headers;
  }

  stop() {
    for (const server of this.servers) {
      server.close();
      server.closeAllConnections();
    }
  }
}

// A page that sends a form to the gateway as soon as it is open.
function sending(address, fields) {
  const inputs = Object.entries(fields).map(([name, value]) => `<input name="${name}" value="${value}">`).join("");
  return `<form method=post action="${address}">${inputs}</form><script>document.forms[0].submit()</script>`;
}

// Forms of other origins change nothing, even with the right key.
async function foreignForms({ page, context, gateway, faults }, attacker) {
  await signIn(page, gateway);
  const token = await createToken(page, gateway, { name: "attacked" });
  await page.goto(`${gateway.ui}/tokens`);
  const row = await page.locator("#tokens tbody tr").first().getAttribute("id");
  const id = row.replace("token-", "");
  const formKey = (await context.cookies(gateway.origin)).find((it) => it.name === "__Host-passticket-form").value;
  const forms = [
    ["sign-out", {}],
    ["sign-in", { user: "USER", password: PASSWORD }],
    ["tokens/new", { name: "foreign", service: "dcpassticket", expiry: "7" }],
    ["tokens/revoke-all", {}],
    [`tokens/${id}/edit`, { name: "foreign" }],
    [`tokens/${id}/rotate`, { grace: "0" }],
    [`tokens/${id}/revoke`, {}],
  ];
  for (const site of [attacker.otherSite, attacker.otherPort]) {
    for (const [path, fields] of forms) {
      for (const key of [undefined, formKey]) {
        attacker.serve(sending(`${gateway.ui}/${path}`, { ...fields, ...key && { "form-key": key } }));
        const answer = page.waitForResponse((it) => it.request().method() === "POST");
        await page.goto(site, { waitUntil: "commit" });
        assert.equal((await answer).status(), 403, `${path} from ${site}`);
        await page.locator("#request-id").waitFor();
      }
    }
  }
  // A server at another port of the host can set the cookie of the form key, because cookies belong to all ports.
  const chosen = "1".repeat(32);
  attacker.serve(sending(`${gateway.ui}/tokens/revoke-all`, { "form-key": chosen }), {
    "set-cookie": `__Host-passticket-form=${chosen}; Path=/; Secure; HttpOnly; SameSite=Strict`,
  });
  const answer = page.waitForResponse((it) => it.request().method() === "POST");
  await page.goto(attacker.otherPort, { waitUntil: "commit" });
  const sent = (await (await answer).request().allHeaders()).cookie;
  assert.ok(sent.includes(`__Host-passticket-form=${chosen}`), "the browser sends the cookie of the attacker");
  assert.equal((await answer).status(), 403);
  await page.locator("#request-id").waitFor();

  await page.goto(`${gateway.ui}/tokens?state=all`);
  await assertText(page, "#signed-in-user", "USER");
  assert.equal(await page.locator("#tokens tbody tr").count(), 1);
  assert.equal(await textOf(page, "#tokens tbody th"), "attacked");
  assert.equal(await statusWith(gateway, token), 200);
  forget(faults, attacker);
}

// No page can show the token page in a frame, and no script of a service behind the gateway can fetch it.
async function clickjacking({ page, gateway, faults }, attacker) {
  await signIn(page, gateway);
  let refused = false;
  page.on("framenavigated", (frame) => {
    if (frame === page.mainFrame()) return;
    if (frame.url().startsWith(gateway.ui)) faults.push(`${frame.url()} is shown in a frame`);
    // The browser shows its own page instead.
    if (frame.url().startsWith("chrome-error:")) refused = true;
  });
  page.on("requestfailed", (request) => {
    if (request.url().startsWith(gateway.ui) && request.failure().errorText === "net::ERR_BLOCKED_BY_RESPONSE") {
      refused = true;
    }
  });
  const service = `${gateway.origin}/dcbypass/api/v1/attack`;
  const frame = (path) => `<iframe src="${gateway.ui}/${path}"></iframe><object data="${gateway.ui}/${path}"></object>`;
  for (const path of ["tokens", "sign-in", "tokens/revoke-all", "x"]) {
    attacker.serve(frame(path));
    await page.route(service, (route) => route.fulfill({ contentType: "text/html", body: frame(path) }));
    for (const site of [attacker.otherSite, attacker.otherPort, service]) {
      refused = false;
      await page.goto(site);
      for (let tries = 0; tries < 400 && !refused; tries += 1) await page.waitForTimeout(50);
      assert.ok(refused, `${path} in a frame of ${site}`);
    }
    await page.unroute(service);
  }
  await page.route(service, (route) => route.fulfill({ contentType: "text/html", body: "a service" }));
  await page.goto(service);
  const fetched = await page.evaluate(async (address) => {
    const answer = await fetch(address);
    return { status: answer.status, text: await answer.text() };
  }, `${gateway.ui}/tokens`);
  assert.equal(fetched.status, 403);
  assert.ok(!fetched.text.includes("sign-out"), "a script gets no page of the user");
  forget(faults, attacker);
}

// A session that an attacker has chosen is not the session of the user after the sign-in.
async function fixation({ page, context, gateway }) {
  const cookies = async () => Object.fromEntries((await context.cookies(gateway.origin)).map((it) => [it.name, it]));
  await signIn(page, gateway);
  const attackers = await cookies();
  const names = ["apimlAuthenticationToken", "__Host-passticket-form"];
  for (const name of names) {
    const { httpOnly, secure, sameSite, path, domain } = attackers[name];
    assert.deepEqual({ httpOnly, secure, sameSite, path, domain },
      { httpOnly: true, secure: true, sameSite: "Strict", path: "/", domain: "localhost" });
  }
  // The browser of the victim has the cookies of the attacker when the victim signs in.
  await signIn(page, gateway);
  const victims = await cookies();
  for (const name of names) assert.notEqual(victims[name].value, attackers[name].value, name);
  await page.click("#sign-out");
  await page.locator("#notice").waitFor();
  const after = await cookies();
  assert.equal(after.apimlAuthenticationToken, undefined);
  assert.notEqual(after["__Host-passticket-form"].value, victims["__Host-passticket-form"].value);
  // The sign-out has ended the session of the victim, also for somebody who has a copy of the cookie.
  await context.addCookies([victims.apimlAuthenticationToken]);
  await page.goto(`${gateway.ui}/tokens`);
  await assertText(page, "#notice", "Your session has ended");
}

// After a sign-out, the back button shows nothing of the user.
async function backButton({ page, gateway }) {
  await signIn(page, gateway);
  const token = await createToken(page, gateway, { name: "shown once" });
  await page.click("#done");
  await page.locator("#tokens").waitFor();
  await page.click("#sign-out");
  await page.locator("#notice").waitFor();
  const left = page.url();
  for (let steps = 0; steps < 4; steps += 1) {
    // The page with the token is the answer to a form. Chromium asks before it sends the form again, and shows an error.
    // The script must have ended before the page goes away.
    await page.evaluate(() => { setTimeout(() => history.back(), 50); });
    await page.waitForTimeout(800);
    await page.waitForLoadState();
    assert.notEqual(page.url(), left, "the back button has left the page");
    const text = await page.content();
    assert.ok(!text.includes(token), `step ${steps}: the token is not shown again`);
    assert.ok(!text.includes("id=\"sign-out\"") && !text.includes("shown once"), `step ${steps}: ${page.url()}`);
    if (page.url() === "about:blank") break;
  }
}

// The pages of the user: the name of each page, and the function that opens it.
function allPages(gateway, token) {
  const at = (path) => (page) => page.goto(`${gateway.ui}/${path}`);
  return [
    ["list", at("tokens")],
    ["list of all states", at("tokens?state=all&done=revoked")],
    ["empty list", at("tokens?name=nothing+has+this+name")],
    ["form for a token", at("tokens/new")],
    ["form for a token with faults", async (page) => {
      await page.goto(`${gateway.ui}/tokens/new`);
      await page.fill("#name", "x");
      await page.click("#submit");
      await page.locator("#problems").waitFor();
    }],
    ["new token", (page) => createToken(page, gateway, { name: "a name without spaces".replaceAll(" ", "-").repeat(3).slice(0, 64) })],
    ["token", at(`tokens/${token}`)],
    ["edit", at(`tokens/${token}/edit`)],
    ["rotate", at(`tokens/${token}/rotate`)],
    ["revoke", at(`tokens/${token}/revoke`)],
    ["revoke all", at("tokens/revoke-all")],
    ["tokens of all users", at("admin/tokens?user=USER")],
    ["no tokens of a user", at("admin/tokens?user=NOBODY")],
    ["token of a user", at(`admin/tokens/${token}?user=USER`)],
    ["revoke the token of a user", at(`admin/tokens/${token}/revoke?user=USER`)],
    ["form for a rule", at("admin/rule")],
    ["form for a rule with faults", at("admin/rule?of=user&user=")],
    ["preview of a rule", at("admin/rule?of=user&user=USER")],
    ["evict", at("admin/evict")],
    ["audit log", at("admin/audit")],
    ["health", at("admin/health")],
    ["page not found", at("x")],
    ["token not found", at(`tokens/${"0".repeat(32)}`)],
    ["sign-in", at("sign-in?done=signed-out")],
    ["sign-in with faults", async (page) => {
      await page.goto(`${gateway.ui}/sign-in`);
      await page.fill("#user", "USER");
      await page.fill("#password", "wrong");
      await page.click("#submit");
      await page.locator("#problems").waitFor();
    }],
  ];
}

// Returns the ids that several elements have, and the labels without a field, because axe-core does not look for them.
// This function runs in the page.
function wrongIds() {
  const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
  const labels = [...document.querySelectorAll("label")].filter((label) => !label.control);
  return [...ids.filter((id, index) => ids.indexOf(id) !== index), ...labels.map((label) => label.outerHTML)];
}

// axe-core finds nothing in any page, in both colour schemes and two widths. No page scrolls sideways.
async function accessibility({ page, gateway }) {
  await signIn(page, gateway);
  await createToken(page, gateway, { name: "Jenkins", description: "Nightly build", days: 7 });
  await createToken(page, gateway, { name: "git", services: ["dcpassticket", "hostile"] });
  await page.goto(`${gateway.ui}/tokens`);
  const token = (await page.locator("#tokens tbody tr").first().getAttribute("id")).replace("token-", "");
  for (const [name, show] of allPages(gateway, token)) {
    await page.setViewportSize(WIDE);
    await show(page);
    assert.equal(await page.locator("h1").count(), 1, `${name} has one heading of the first level`);
    assert.deepEqual(await page.evaluate(wrongIds), [], name);
    await page.evaluate(axe.source);
    for (const colorScheme of ["light", "dark"]) {
      for (const size of [WIDE, NARROW]) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.setViewportSize(size);
        const violations = await page.evaluate(async () => {
          const { violations } = await globalThis.axe.run({ resultTypes: ["violations"] });
          return violations.map(({ id, impact, help, nodes }) =>
            `${id} (${impact}): ${help}: ${nodes.map((it) => `${it.html} ${it.failureSummary}`).join("; ")}`);
        });
        assert.deepEqual(violations, [], `${name}, ${colorScheme}, ${size.width}`);
      }
    }
    for (const size of [WIDE, NARROW, NARROWEST]) {
      await page.setViewportSize(size);
      const width = await page.evaluate(() => document.scrollingElement.scrollWidth);
      assert.ok(width <= size.width, `${name} is ${width} wide in a window of ${size.width}`);
    }
  }
}

// Removes the requests to the pages of the attacker, and the frames that the browser has refused, from the faults.
function forget(faults, attacker) {
  const isExpected = (fault) => [attacker.otherSite, attacker.otherPort].some((site) => fault.includes(site))
    || fault.includes("frame-ancestors");
  faults.splice(0, faults.length, ...faults.filter((fault) => !isExpected(fault)));
}

// Runs the checks, two at a time, each with a gateway of its own. Stops at the first failure.
async function main() {
  const demo = await Gateway.demo(program);
  // Two checks run at the same time, so each has its own attacker.
  const attackers = [await Attacker.start(demo), await Attacker.start(demo)];
  const browser = await startBrowser();
  const browserOfPeople = await startBrowser({ keepsPages: true });
  const scriptless = { javaScriptEnabled: false };
  const functions = (how, options, certificate = false) =>
    [`every function ${how}`, { options, certificate }, (visit) => everyFunction(visit, { certificate })];
  const checks = [
    ["axe-core finds nothing, and no page scrolls sideways", { definitions: (text) => text + SERVICES }, accessibility],
    ["texts of users and services run no script", { definitions: (text) => text + SERVICES }, storedTexts],
    functions("with JavaScript", {}),
    functions("without JavaScript", scriptless),
    functions("with a client certificate", {}, true),
    functions("with a client certificate, without JavaScript", scriptless, true),
    functions("in a narrow window", { viewport: NARROWEST, hasTouch: true }),
    ["the script adds comfort", { definitions: (text) => text + SERVICES }, comfort],
    ["the keyboard reaches everything", {}, keyboard],
    ["forms of other sites change nothing", {}, (visit) => foreignForms(visit, attackers[0])],
    ["no page shows the token page in a frame", {}, (visit) => clickjacking(visit, attackers[1])],
    ["every function for administrators", {}, administration],
    ["every function for administrators without JavaScript", { options: scriptless }, administration],
    ["other users have no pages for administrators", {}, noAdministration],
    ["texts in the audit log run no script", {}, auditedTexts],
    ["a sign-in starts a new session", {}, fixation],
    ["the back button shows nothing after a sign-out", { browser: browserOfPeople }, backButton],
  ];
  const only = process.argv[3] ?? "";
  checks.splice(0, checks.length, ...checks.filter(([name]) => name.includes(only)));
  const total = checks.length;
  assert.ok(total > 0, `no check has the name ${only}`);
  let passed = 0;
  const work = async () => {
    for (let next = checks.shift(); next; next = checks.shift()) {
      const [name, { definitions, options = {}, certificate, browser: other = browser }, act] = next;
      const began = Date.now();
      try {
        const gateway = await demo.copy(program, `copy-${checks.length}`, definitions);
        const certificates = [{ origin: gateway.origin, ...gateway.certificate("USER") }];
        await visit(other, gateway, { ...options, ...certificate && { clientCertificates: certificates } }, act);
        await gateway.stop();
      } catch (error) {
        checks.length = 0;
        error.message = `${name}: ${error.message}`;
        throw error;
      }
      passed += 1;
      console.log(`ok: ${name} (${((Date.now() - began) / 1000).toFixed(1)} s)`);
    }
  };
  try {
    await Promise.all([work(), work()]);
    assert.equal(passed, total);
    console.log(`${passed} passed, 0 failed`);
  } finally {
    await browser.close();
    await browserOfPeople.close();
    for (const attacker of attackers) attacker.stop();
  }
}

try {
  await main();
} catch (error) {
  console.error(error);
  process.exitCode = 1;
} finally {
  await Gateway.stopAll();
}
