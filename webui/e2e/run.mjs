// Drives the web UI of a fresh, running cell in Debian's Chromium, from the claim to the last page.
//
//   npm run e2e -- --url http://127.0.0.1:3000 --claim-token TOKEN [--pictures FOLDER]
//
// The cell must not be set up yet. Ends with status 1 when anything at all was not as it should be.

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { assert, Line, launchBrowser, parseArguments, Recorder, writeReport } from './lib.mjs';
import * as devices from './specs/devices.mjs';
import * as live from './specs/live.mjs';
import * as looks from './specs/looks.mjs';
import * as people from './specs/people.mjs';
import * as setup from './specs/setup.mjs';

const given = parseArguments(process.argv.slice(2), ['url', 'claim-token'], ['pictures']);
const line = new Line(given.url);
await line.mend();
const browser = await launchBrowser(line);
const recorder = new Recorder();
const context = await browser.newContext({
  viewport: { width: 1440, height: 900 },
  reducedMotion: 'reduce',
  acceptDownloads: true,
});
context.setDefaultTimeout(10_000);
await recorder.watch(context);
// Signed out, and not yet set up: the browser writes the answer's status to its console.
recorder.allow(/status of 4(01|28) .*\/api\/auth\/me$/);

const world = {
  browser,
  context,
  recorder,
  line,
  url: new URL(given.url).origin,
  token: given['claim-token'],
  pictures: given.pictures ?? join(tmpdir(), `cell-webui-pictures-${process.pid}`),
  admin: { username: 'admin', password: 'correct horse battery staple' },
  privateKeys: [],
  page: await context.newPage(),
};

const lines = [];
let failed = 0;
const specs = [setup, devices, live, looks, people].flatMap((module) => module.specs);
for (const [name, spec] of specs) {
  const start = performance.now();
  const seconds = () => ((performance.now() - start) / 1000).toFixed(1);
  try {
    const note = await spec(world);
    report(`ok    ${seconds().padStart(5)} s  ${name}${note ? ` (${note})` : ''}`);
  } catch (error) {
    failed++;
    report(`FAIL  ${seconds().padStart(5)} s  ${name}\n${error.stack}`);
    await world.page.screenshot({ path: join(world.pictures, `failed-${failed}.png`) }).catch(() => undefined);
    // Without a cell that is set up, every other spec would only wait.
    if (setup.specs.some(([first]) => first === name)) break;
  }
}
await check('no private key in any request, answer, header, address or console line', () => {
  assert(world.privateKeys.length >= 3, `only ${world.privateKeys.length} keys were made`);
  assert(recorder.bodies >= world.privateKeys.length, `only ${recorder.bodies} bodies were seen`);
  const leaks = world.privateKeys.flatMap((key) => recorder.leaks(key));
  assert(leaks.length === 0, `leaked in:\n${leaks.map((leak) => leak.slice(0, 200)).join('\n')}`);
  return `${world.privateKeys.length} keys, ${recorder.traffic.length} lines`;
});
await check('no policy violation, console error or page error', () => {
  assert(recorder.problems.length === 0, recorder.problems.join('\n'));
});
writeReport(world.pictures, lines);
await browser.close();
await line.cut();
console.log(failed === 0 ? 'web UI: all held' : `web UI: ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);

async function check(name, act) {
  try {
    const note = await act();
    report(`ok             ${name}${note ? ` (${note})` : ''}`);
  } catch (error) {
    failed++;
    report(`FAIL           ${name}\n${error.message}`);
  }
}

function report(text) {
  lines.push(text);
  console.log(text);
}
