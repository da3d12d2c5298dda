// Writes pictures of the token page: each page in two widths and both colour schemes. The data is invented. Times, ids,
// tokens and addresses in the pages are replaced by fixed ones, so only a change of the page changes its pictures.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { request } from "playwright-core";
import { Gateway, createToken, signIn, startBrowser } from "./gateway.mjs";
import { withPalette } from "./palette.mjs";

const WIDTHS = { wide: 1280, narrow: 375 };
const [program, directory] = process.argv.slice(2);
if (!directory) throw new Error("an argument is missing: .ci/page/screenshots PROGRAM DIRECTORY");

const SERVICES = [
  ["files", "Files and data sets", "Read and write data sets and USS files"],
  ["zosmf", "z/OSMF REST services", "Jobs, data sets, TSO and workflows of IBM z/OSMF"],
  ["db2", "Db2 for z/OS", "Native REST services of subsystem DB2P"],
  ["endevor", "Endevor web services", "Elements, packages and inventory of Endevor SCM"],
];

const definitions = (text) => SERVICES.reduce((all, [id, title, description]) => `${all}  - serviceId: ${id}
    title: ${title}
    description: ${description}
    instanceBaseUrls: [https://localhost:1/${id}]
    routes: [{ gatewayUrl: api/v1, serviceRelativeUrl: / }]
    authentication: { scheme: bypass }
`, text.replace("serviceId: dcpassticket", "serviceId: jobs")
  .replace("title: Receives a PassTicket", "title: Jobs and spool")
  .replace("description: Echoes the request at /request, evaluates the PassTicket at /passticketTest",
    "description: Submit jobs, and read their output")
  .replace(/ {2}- serviceId: dcbypass[^]*/, ""));

// The tokens in the pictures, with the times at which they were created, expire and were last used.
const TOKENS = [
  { name: "Endevor packages", description: "Promotion to production", services: ["endevor", "files"], days: 7,
    created: "2026-03-09 16:02", expires: "2026-03-16 16:02", left: "in 5 days", soon: true },
  { name: "VS Code", description: "", services: ["zosmf", "files", "jobs"], days: 30,
    created: "2026-03-02 09:14", expires: "2026-04-01 09:14", left: "in 21 days", used: "2026-03-11 08:51" },
  { name: "Jenkins", description: "Nightly build of PAYROLL", services: ["jobs", "endevor"], days: 90,
    created: "2026-02-18 13:40", expires: "2026-05-19 13:40", left: "in 69 days", used: "2026-03-11 02:00" },
  { name: "Reports", description: "Monthly figures from DB2P", services: ["db2"], days: 60,
    created: "2026-02-11 11:25", expires: "2026-04-12 11:25", left: "in 32 days" },
];
const FIXED = { created: "2026-03-11 10:30", expires: "2026-04-10 10:30", left: "in 30 days" };

// Replaces the texts that differ at each start. This function runs in the page.
function settle({ tokens, fixed, address: [host, port] }) {
  const known = (element) => {
    const row = element.closest("tr");
    const name = row?.querySelector("th a")?.textContent;
    return tokens.find((token) => token.name === name)
      ?? tokens.find((token) => document.querySelector("h1")?.textContent.includes(token.name)) ?? fixed;
  };
  for (const time of document.querySelectorAll("time")) {
    const label = time.closest("[data-label]")?.dataset.label ?? time.closest("dd")?.previousElementSibling?.textContent;
    const token = known(time);
    const whole = `${{ Created: token.created, "Last used": token.used ?? fixed.created }[label] ?? token.expires} UTC`;
    // The list shows only dates.
    time.textContent = time.textContent.includes(" ") ? whole : whole.split(" ")[0];
    const left = time.parentElement.querySelector(".sub");
    if (left && label === "Expires") {
      left.textContent = token.left;
      left.classList.toggle("soon", Boolean(token.soon));
    }
    if (left && label === "Last used") left.textContent = "10.20.30.40";
  }
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    node.data = node.data.replaceAll(host, "gateway.example.com").replaceAll(port, "7554").replaceAll("127.0.0.1", "10.20.30.40").replace(/\b\d{4}-\d\d-\d\d\b(?= *\.)/, "2026-06-09")
      .replace(/\b[0-9a-f]{32}\b/, "5b0c7e1f94d24a6f8e3d2c1b0a998877");
  }
  for (const field of document.querySelectorAll("textarea[readonly]")) {
    field.value = "eyJraWQiOiJpbnZlbnRlZCIsImFsZyI6IlJTMjU2In0.".padEnd(420, "aW52ZW50ZWQgZm9yIHRoZSBwaWN0dXJl");
  }
  for (const id of document.querySelectorAll("#request-id")) id.textContent = "5b0c7e1f94d24a6f";
  document.activeElement?.blur();
}

const browser = await startBrowser();
try {
  mkdirSync(directory, { recursive: true });
  const demo = await Gateway.demo(program);
  const gateway = await demo.copy(program, "pictures", definitions);
  const certificate = [{ origin: gateway.origin, ...gateway.certificate("USER") }];
  const context = await browser.newContext({ ignoreHTTPSErrors: true, clientCertificates: certificate });
  const page = await context.newPage();
  const settings = { tokens: TOKENS, fixed: FIXED, address: new URL(gateway.origin).host.split(":") };
  const picture = async (name) => {
    await page.waitForLoadState();
    await page.evaluate(settle, settings);
    for (const [size, width] of Object.entries(WIDTHS)) {
      for (const colorScheme of ["light", "dark"]) {
        await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
        await page.setViewportSize({ width, height: 640 });
        const path = join(directory, `token-page-${name}-${size}-${colorScheme}.png`);
        writeFileSync(path, withPalette(await page.screenshot({ fullPage: true })));
      }
    }
  };

  await page.goto(`${gateway.ui}/sign-in`);
  await picture("sign-in");
  await page.fill("#user", "USER");
  await page.fill("#password", "wrong");
  await page.click("#submit");
  await picture("sign-in-refused");
  await signIn(page, gateway);
  await picture("empty");
  const client = await request.newContext({ ignoreHTTPSErrors: true });
  const use = (token) => client.get(`${gateway.origin}/jobs/api/v1/request`, { headers: { "private-token": token } });
  for (const token of [...TOKENS].reverse()) {
    const created = await createToken(page, gateway, token);
    if (token.used) await use(created);
  }
  // The gateway writes the last use of a token after some seconds.
  const used = page.locator("#tokens td", { hasText: "127.0.0.1" });
  do await page.goto(`${gateway.ui}/tokens`); while (await used.count() < TOKENS.filter((token) => token.used).length);
  await picture("list");
  await page.goto(`${gateway.ui}/tokens/new`);
  await page.fill("#name", "git");
  await page.check("input[name=service][value=endevor]");
  await picture("create");
  await page.fill("#name", "");
  await page.uncheck("input[name=service][value=endevor]");
  await page.fill("#name", " ");
  await page.click("#submit");
  await picture("create-refused");
  await createToken(page, gateway, { name: "git", services: ["endevor"], days: 30 });
  await picture("created");
  await page.goto(`${gateway.ui}/tokens`);
  await page.getByRole("link", { name: "Jenkins", exact: true }).click();
  await picture("token");
  const token = page.url();
  for (const form of ["edit", "rotate", "revoke"]) {
    await page.goto(`${token}/${form}`);
    await picture(form);
  }
  await page.goto(`${gateway.ui}/tokens/revoke-all`);
  await picture("revoke-all");
  await page.goto(`${gateway.ui}/tokens/${"0".repeat(32)}`);
  await picture("problem");

  await page.goto(`${gateway.ui}/admin/tokens?service=endevor`);
  await picture("admin-tokens");
  await page.goto(`${gateway.ui}/admin/rule`);
  await picture("admin-rule");
  await page.fill("input#user", "USER");
  await page.click("#preview");
  await picture("admin-preview");
  await page.goto(`${gateway.ui}/admin/evict`);
  await picture("admin-evict");
  // The gateway writes audit records after at most one second.
  const minted = page.locator("#records tbody tr", { hasText: "token-minted" });
  do await page.goto(`${gateway.ui}/admin/audit?event=token-minted`); while (await minted.count() < TOKENS.length + 1);
  await picture("admin-audit");
  await page.goto(`${gateway.ui}/admin/health`);
  await picture("admin-health");
} finally {
  await browser.close();
  await Gateway.stopAll();
}
