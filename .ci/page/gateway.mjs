// Starts gateways for the scripts of this directory, and opens their pages in Chromium.

import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { chromium } from "playwright-core";

const PATIENCE = 60_000;

// A gateway that runs until `stopAll`.
export class Gateway {
  static #running = [];
  static #directory = mkdtempSync(join(tmpdir(), "token-page-"));
  #process;

  // Starts the demo of a program.
  static async demo(program) {
    const files = join(Gateway.#directory, "demo");
    return Gateway.#start(files, program, ["serve", "--demo", "--port", "0", "--data-dir", files]);
  }

  // Starts a gateway with a copy of the files of this one, which use the same services. `definitions` changes the text of
  // the definitions of the services. `APIMTST` also has a password there, and is no administrator.
  async copy(program, name, definitions = (text) => text) {
    const files = join(Gateway.#directory, name);
    cpSync(this.files, files, { recursive: true });
    for (const file of ["revocations.redb", "audit.jsonl", "audit.unauthenticated.jsonl"]) {
      rmSync(join(files, file), { force: true });
    }
    const config = join(files, "zowe.yaml");
    writeFileSync(config, readFileSync(config, "utf8").replace(/^ {4}port: \d+/m, "    port: 0"));
    const users = join(files, "users.yml");
    writeFileSync(users, readFileSync(users, "utf8").replace(/^ {2}USER: (.*)$/m, "$&\n  APIMTST: $1"));
    const services = join(files, "api-defs", "demo.yml");
    writeFileSync(services, definitions(readFileSync(services, "utf8")));
    return Gateway.#start(files, program, ["serve", "--config", config, "--new-store"]);
  }

  static async #start(files, program, args) {
    const gateway = new Gateway();
    gateway.files = files;
    const process = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"] });
    gateway.#process = process;
    Gateway.#running.push(gateway);
    let output = "";
    for (const stream of [process.stdout, process.stderr]) stream.on("data", (text) => { output += text; });
    process.on("error", (error) => { output += error; });
    for (const end = Date.now() + PATIENCE; Date.now() < end && process.exitCode === null; await wait(50)) {
      const port = /https:\/\/localhost:(\d+)|listening.*?127\.0\.0\.1:(\d+)/.exec(output);
      if (!port) continue;
      gateway.origin = `https://localhost:${port[1] ?? port[2]}`;
      gateway.ui = `${gateway.origin}/gateway/ui`;
      return gateway;
    }
    throw new Error(`the gateway does not start:\n${output}`);
  }

  // The files of a certificate of the demo, such as that of `USER`.
  certificate(name) {
    return { certPath: join(this.files, "certs", `${name}.pem`), keyPath: join(this.files, "certs", `${name}.key`) };
  }

  async stop() {
    const exit = new Promise((done) => { this.#process.on("exit", done); });
    const runs = this.#process.exitCode === null && this.#process.signalCode === null;
    if (runs && this.#process.kill()) await exit;
  }

  // Stops all gateways, and removes their files.
  static async stopAll() {
    for (const gateway of Gateway.#running) await gateway.stop();
    rmSync(Gateway.#directory, { recursive: true, force: true });
  }
}

// Starts Debian's Chromium. With `keepsPages`, Chromium keeps pages in memory for the back button, as in normal use.
export function startBrowser({ keepsPages = false } = {}) {
  return chromium.launch({
    executablePath: "/usr/bin/chromium",
    ignoreDefaultArgs: keepsPages ? ["--disable-back-forward-cache"] : [],
    args: ["--disable-dev-shm-usage", "--disable-gpu"],
  });
}

export const PASSWORD = "validPassword";

// Signs in, as the administrator of the demo if no other user is given.
export async function signIn(page, gateway, user = "USER") {
  await page.goto(`${gateway.ui}/sign-in`);
  await page.fill("#user", user);
  await page.fill("#password", PASSWORD);
  await page.click("#submit");
  await page.waitForURL(`${gateway.ui}/tokens`);
}

// Fills and sends the form for a new token. Returns the token.
export async function createToken(page, gateway, { name, description = "", services = ["dcpassticket"], days = 30 }) {
  await page.goto(`${gateway.ui}/tokens/new`);
  await page.fill("#name", name);
  await page.fill("#description", description);
  for (const service of services) await page.check(`input[name=service][value="${service}"]`);
  await page.check(`input[name=expiry][value="${days}"]`);
  await page.click("#submit");
  return page.inputValue("#token");
}
