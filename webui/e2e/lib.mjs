// What the specs share: arguments, a browser that records everything, axe, the QR reader, wg.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import net from 'node:net';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const axeSource = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const TAGS = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'];
const EVERYTHING = { type: 'tag', values: TAGS };
const COLOURS = { type: 'rule', values: ['color-contrast', 'link-in-text-block'] };

export const CHROMIUM = process.env.CHROMIUM ?? '/usr/bin/chromium';
export const CHROMIUM_ARGUMENTS = ['--no-sandbox', '--disable-dev-shm-usage', '--force-color-profile=srgb'];

export const SIZES = {
  phone: { width: 390, height: 844 },
  tablet: { width: 820, height: 1180 },
  desktop: { width: 1440, height: 900 },
};
const THEMES = ['light', 'dark'];

/** `--name value` pairs. */
export function parseArguments(argv, required, optional) {
  const given = {};
  for (let i = 0; i < argv.length; i += 2) {
    const name = argv[i]?.replace(/^--/, '');
    if (![...required, ...optional].includes(name) || argv[i + 1] === undefined) throw new Error(`what is ${argv[i]}?`);
    given[name] = argv[i + 1];
  }
  for (const name of required) if (!given[name]) throw new Error(`--${name} is missing`);
  return given;
}

/** Waits for what the page does by itself: a request may leave it later than what it shows already. */
export async function until(holds, message) {
  const end = performance.now() + 15_000;
  while (!holds()) {
    assert(performance.now() < end, message());
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

export function assert(truth, message) {
  if (!truth) throw new Error(message);
}

/** Stands between browser and cell, so that a spec can cut the line and mend it. */
export class Line {
  #sockets = new Set();
  #server;
  #target;
  port;

  constructor(url) {
    const { hostname, port } = new URL(url);
    this.#target = { host: hostname, port: Number(port || 80) };
  }

  async mend() {
    this.#server = net.createServer((near) => {
      const far = net.connect(this.#target);
      for (const [socket, other] of [
        [near, far],
        [far, near],
      ]) {
        this.#sockets.add(socket);
        socket.on('error', () => other.destroy());
        socket.on('close', () => {
          this.#sockets.delete(socket);
          other.destroy();
        });
        socket.pipe(other);
      }
    });
    await new Promise((done, failed) => {
      this.#server.once('error', failed);
      this.#server.listen(this.port ?? 0, '127.0.0.1', done);
    });
    this.port = this.#server.address().port;
  }

  cut() {
    for (const socket of this.#sockets) socket.destroy();
    return new Promise((done) => this.#server.close(done));
  }
}

/** A page whose traffic, console and policy violations are kept; what no spec allowed is a failure at the end. */
export class Recorder {
  traffic = [];
  /** Bodies of changes that were seen in full; a check of what they hold needs some. */
  bodies = 0;
  problems = [];
  #allowed = [];

  allow(...patterns) {
    this.#allowed.push(...patterns);
  }

  /** Adds what another one saw. */
  take(other) {
    this.traffic.push(...other.traffic);
    this.problems.push(...other.problems);
    this.bodies += other.bodies;
  }

  async watch(context) {
    await context.addInitScript(() => {
      document.addEventListener('securitypolicyviolation', (event) => {
        console.error(`CSP ${event.violatedDirective} ${event.blockedURI} ${event.sourceFile}:${event.lineNumber}`);
      });
    });
    context.on('page', (page) => {
      page.on('console', (message) => {
        const line = `${message.type()}: ${message.text()} ${message.location().url}`;
        this.traffic.push(line);
        const serious = message.type() === 'error' || message.type() === 'warning';
        if (serious && !this.#allowed.some((pattern) => pattern.test(line))) this.problems.push(line);
      });
      page.on('pageerror', (error) => this.problems.push(`page error: ${error.stack}`));
    });
    context.on('request', (request) => {
      const body = request.postData() ?? '';
      if (body && new URL(request.url()).pathname.startsWith('/api/peers')) this.bodies++;
      this.traffic.push(`${request.method()} ${request.url()} ${JSON.stringify(request.headers())} ${body}`);
    });
    context.on('response', async (response) => {
      if (!response.url().includes('/api/') || response.url().endsWith('/api/events')) return;
      const body = await response.text().catch(() => '');
      this.traffic.push(`${response.status()} ${response.url()} ${JSON.stringify(response.headers())} ${body}`);
    });
  }

  /** Lines that hold the secret. */
  leaks(secret) {
    const forms = [secret, encodeURIComponent(secret), Buffer.from(secret, 'base64').toString('hex')];
    return this.traffic.filter((line) => forms.some((form) => line.includes(form)));
  }
}

/** Says yes to what a change takes away, where that is asked before `done` is there. */
export async function agree(page, done) {
  const make = page.getByRole('dialog').getByRole('button', { name: 'Make the change' });
  await make.or(done).first().waitFor();
  if (await make.isVisible()) await make.click();
  await done.first().waitFor();
}

/** Its connections go through the line; names, and with them the Host header, stay the cell's. */
export function launchBrowser(line) {
  return chromium.launch({
    executablePath: CHROMIUM,
    args: [...CHROMIUM_ARGUMENTS, `--host-resolver-rules=MAP * 127.0.0.1:${line.port}`],
  });
}

/** Violations of the page as it stands, one line each. */
export async function axeViolations(page, wanted = EVERYTHING) {
  // By the debugger's protocol, which the page's policy does not bind; a script element would be refused.
  if (!(await page.evaluate(() => 'axe' in window))) {
    await page.evaluate(`(() => { const module = undefined; ${axeSource}; })()`);
  }
  const { violations } = await page.evaluate(
    (runOnly) => window.axe.run(document, { runOnly, resultTypes: ['violations'] }),
    wanted,
  );
  return violations.flatMap(({ id, nodes }) =>
    nodes.map(
      (node) => `${id}: ${node.target.join(' ')} ${node.html.slice(0, 160)} (${node.failureSummary.split('\n')[1]})`,
    ),
  );
}

/** The text of the QR code on a picture of the element, as a phone's camera would see it. */
export async function readQr(locator, folder) {
  mkdirSync(folder, { recursive: true });
  const path = join(folder, 'qr.png');
  await locator.screenshot({ path });
  const read = spawnSync('zbarimg', ['--quiet', '--raw', '-Sdisable', '-Sqrcode.enable', path], { encoding: 'utf8' });
  assert(read.status === 0, `zbarimg cannot read the code: ${read.stderr}`);
  return read.stdout;
}

export function wgPublicKey(privateKey) {
  return execFileSync('wg', ['pubkey'], { input: `${privateKey}\n`, encoding: 'utf8' }).trim();
}

export function privateKeyOf(config) {
  const key = /^PrivateKey = ([A-Za-z0-9+/]{43}=)$/m.exec(config)?.[1];
  assert(key, 'the configuration has no private key');
  return key;
}

export async function signIn(page, username, password) {
  await page.getByLabel('User name').fill(username);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.keyboard.press('Enter');
}

/** Full checks by axe where both themes and both shapes of the page are met; elsewhere what a theme alone can break. */
const CHECKS = {
  'phone light': EVERYTHING,
  'phone dark': COLOURS,
  'desktop light': COLOURS,
  'desktop dark': EVERYTHING,
};
/** 320 px wide, and 200 % text, which is half the width in CSS pixels of a desktop (WCAG 1.4.4, 1.4.10). */
const NARROW = [
  { width: 320, height: 800 },
  { width: 720, height: 450 },
];

/** The page as it stands, in all sizes and both themes: nothing scrolls sideways, axe finds nothing; a picture of each. */
export async function inspect({ page, pictures }, name) {
  const found = [];
  for (const viewport of NARROW) {
    await page.setViewportSize(viewport);
    if (await sideways(page)) found.push(`scrolls sideways at ${viewport.width} px`);
  }
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    // The tablet is made of what the other two show: one look is enough.
    for (const scheme of size === 'tablet' ? THEMES.slice(0, 1) : THEMES) {
      const checks = CHECKS[`${size} ${scheme}`];
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      await settled(page);
      const violations = checks ? await axeViolations(page, checks) : [];
      for (const violation of violations) found.push(`${size} ${scheme} ${violation}`);
      if (await sideways(page)) found.push(`${size} ${scheme} scrolls sideways`);
      await page.screenshot({ path: join(pictures, `${name}-${size}-${scheme}.png`) });
    }
  }
  await page.emulateMedia({ colorScheme: 'light', reducedMotion: 'reduce' });
  await page.setViewportSize(SIZES.desktop);
  assert(found.length === 0, [...new Set(found)].join('\n'));
}

/** Colours may change by a transition; axe must see the end of it. */
function settled(page) {
  return page.evaluate(async () => {
    await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
    const ending = document.getAnimations().filter((a) => a.effect?.getComputedTiming().iterations !== Infinity);
    await Promise.allSettled(ending.map((animation) => animation.finished));
  });
}

/** Processor time of the page's main thread while `act` runs, in milliseconds: what a busy machine does not stretch. */
export async function threadMillis(page, act) {
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable', { timeDomain: 'threadTicks' });
  const spent = async () => {
    const { metrics } = await session.send('Performance.getMetrics');
    return metrics.find(({ name }) => name === 'TaskDuration').value * 1000;
  };
  const before = await spent();
  await act();
  const millis = (await spent()) - before;
  await session.detach();
  return millis;
}

function sideways(page) {
  return page.evaluate(() => {
    const dialog = document.querySelector('dialog[open]');
    const root = document.documentElement;
    return root.scrollWidth > root.clientWidth || (dialog !== null && dialog.scrollWidth > dialog.clientWidth);
  });
}
