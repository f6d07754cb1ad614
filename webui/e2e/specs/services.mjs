// Services on a machine without Docker, as the cell itself answers; then pages of installed ones, whose answers are made up here.

import { assert, inspect, SIZES, threadMillis, until } from '../lib.mjs';

export const specs = [
  ['without Docker: services say why they cannot run, and how to change that', withoutDocker],
  ['the store shows the catalog that is shipped, or says that there is none; unknown names lead back', emptyStore],
  ['a catalog of others: added with a key, looked at, told why it cannot be had, removed', otherCatalogs],
  ['the log of DNS is switched at once, and is so after a reload', queryLog],
  ['installed services: states, progress with bytes, what goes when one is removed', installed],
  ['the store: found by a word, a form, and what happens before the click', store],
  ['one service: access, accounts shown once, log, health', oneService],
  ['50 devices by 20 services: readable, and switched by the keyboard alone', matrix],
  ['a phone reaches everything behind one more button', onPhone],
];

const NOW = '2026-11-20T10:00:00Z';
const FORM = [
  field('domain', { label: 'Domain of the addresses', pattern: 'hostname', max_length: 253 }),
  field('quota', { label: 'Most gigabytes', kind: 'integer', min: 1, max: 99, pattern: null, default: '10' }),
  field('open', { label: 'Take mail from outside', kind: 'boolean', pattern: null, default: 'false' }),
  field('mode', { label: 'Mode', kind: 'enum', values: ['fast', 'safe'], pattern: null, default: 'safe' }),
];

function field(name, change) {
  const base = { name, kind: 'string', min: null, max: null, max_length: null, values: [], default: null, help: '' };
  return { ...base, ...change };
}

function service(name, change = {}) {
  return {
    ...{
      name,
      id: name,
      instance: '',
      title: name[0].toUpperCase() + name.slice(1),
      version: '1.2',
      digest: 'sha256:0',
    },
    ...{ purpose: 'store', phase: 'installed', step: '', progress: null, waiting: null, error: null, stopped: false },
    ...{ published: true, address: '10.86.0.250', names: [`${name}.nest.cell`], subnet: '172.21.0.0/28' },
    ...{ bridge: 'cellsvc1', parameters: {}, has_accounts: true, form: [], everyone: false, allowed_peers: [] },
    ...{ update: null, created_at: NOW, updated_at: NOW },
    ...change,
  };
}

const ALL = [
  service('calendar', {
    title: 'Calendar and contacts',
    everyone: true,
    update: { version: '1.3', digest: 'sha256:1' },
  }),
  service('files', { allowed_peers: ['ana-phone'], form: FORM, parameters: { domain: 'nest.cell' } }),
  service('mail', {
    ...{ phase: 'installing', step: 'images', published: false },
    progress: { image: 'example.net/mail', status: 'Downloading', current_bytes: 4_500_000, total_bytes: 9_000_000 },
  }),
  service('notes', { stopped: true }),
  service('photos', {
    phase: 'failed',
    step: 'installing',
    error: { code: 'DENIED', message: 'the ceiling has no room' },
  }),
  service('wiki', { phase: 'installing', step: 'manifest', waiting: { code: 'NO_CEILING', message: 'no ceiling' } }),
  service('caddy', { purpose: 'core', names: [], has_accounts: false }),
];

const json = (route, body, status = 200) =>
  route.fulfill({ status, contentType: 'application/json', body: JSON.stringify(body) });

/** Answers of a cell with services, in front of the real one. */
async function madeUp(page, services, act) {
  const answers = [
    ['**/api/services', (route) => json(route, { services })],
    [
      '**/api/services/active',
      (route) =>
        json(route, {
          services: services
            .filter((one) => one.phase === 'installed' && one.purpose === 'store' && !one.stopped)
            .map(({ name, title }) => ({ name, title, url: `https://${name}.nest.cell/` })),
        }),
    ],
    ['**/api/containers', (route) => json(route, { docker: { reachable: true, reason: '' }, containers: [] })],
    ...(act ?? []),
  ];
  for (const [path, answer] of answers) await page.route(path, answer);
  return async () => {
    for (const [path] of answers) await page.unroute(path);
  };
}

async function withoutDocker(world) {
  const { page, url } = world;
  await page.goto(url);
  await page.getByRole('link', { name: 'Services' }).first().click();
  await page.getByText('No services yet').waitFor();
  const note = page.getByRole('region', { name: 'Services cannot run here yet' });
  await note.getByText('How to').click();
  await note.getByText(/apt install docker\.io/).waitFor();
  await inspect(world, 'services-none');
  await page.getByRole('link', { name: 'Who may use what' }).click();
  await page.getByText('Once a service is installed, you decide here').waitFor();
}

async function emptyStore(world) {
  const { page, url, recorder } = world;
  recorder.allow(/status of 404 .*\/api\/services\/nothing(\/.*)?$/);
  await page.goto(`${url}/services`);
  await page.getByRole('link', { name: 'Store', exact: true }).click();
  await page.getByText('Calendar and contacts').first().waitFor();
  await inspect(world, 'store-shipped');
  const end = await madeUp(page, [], [['**/api/store/catalog', (route) => json(route, { services: [], faults: [] })]]);
  await page.reload();
  await page.getByText('The store is empty').waitFor();
  await inspect(world, 'store-empty');
  await end();
  await page.goto(`${url}/store/nothing`);
  await page.getByText('The store has no such service').waitFor();
  await page.goto(`${url}/services/nothing`);
  await page.getByText('There is no service of this name').waitFor();
}

/** Against the cell itself: its server is at an address that nobody has. */
async function otherCatalogs(world) {
  const { page, url, recorder } = world;
  recorder.allow(/status of 400 .*\/api\/store\/catalogs$/);
  await page.goto(`${url}/store`);
  await page.getByText('Add a catalog').first().click();
  await page.getByLabel('Name', { exact: true }).fill('others');
  await page.getByLabel('Address', { exact: true }).fill('https://192.0.2.1/cell/');
  await page.getByLabel('Public keys').fill('no key');
  await page.getByRole('button', { name: 'Add a catalog' }).click();
  await page.getByText(/each is a public key of ECDSA on P-256/i).waitFor();
  const pair = await crypto.subtle.generateKey({ name: 'ECDSA', namedCurve: 'P-256' }, true, ['sign', 'verify']);
  const spki = Buffer.from(await crypto.subtle.exportKey('spki', pair.publicKey)).toString('base64');
  const lines = spki.match(/.{1,64}/g).join('\n');
  await page.getByLabel('Public keys').fill(`-----BEGIN PUBLIC KEY-----\n${lines}\n-----END PUBLIC KEY-----\n`);
  await page.getByRole('button', { name: 'Add a catalog' }).click();
  const row = page.getByRole('listitem', { name: 'others' });
  await row.getByText('https://192.0.2.1/cell/').waitFor();
  await inspect(world, 'store-catalogs');
  // Nobody answers there, or this machine knows no authority: either is told.
  await row.getByText(/The last look failed: /).waitFor({ timeout: 90_000 });
  await row.getByRole('button', { name: 'Remove: others' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await row.waitFor({ state: 'detached' });
}

async function queryLog(world) {
  const { page, url } = world;
  await page.goto(`${url}/settings`);
  const all = page.getByRole('group', { name: 'Log of names that devices look up' });
  const set = () =>
    page.waitForResponse(
      (answer) => answer.url().endsWith('/api/dns/query-log') && answer.request().method() === 'PUT',
    );
  await Promise.all([set(), all.getByLabel('Every question').click()]);
  await page.reload();
  await all.getByLabel('Every question').waitFor();
  assert(await all.getByLabel('Every question').isChecked(), 'it was not kept');
  await Promise.all([set(), all.getByLabel('Errors').click()]);
}

async function installed(world) {
  const { page, url } = world;
  const plan = (route) => {
    const erase = route.request().url().includes('delete_volumes=true');
    const data = erase ? 'All of its data is deleted, for good.' : 'Its data is kept in its volumes.';
    return json(route, { service: null, plan: ['Files (files) is removed.', data] });
  };
  const end = await madeUp(page, ALL, [['**/api/services/files?*', plan]]);
  await page.goto(`${url}/services`);
  const rows = page.getByRole('list', { name: 'Installed services' });
  await rows.getByText('4.5 MB of 9 MB').waitFor();
  await page.getByRole('link', { name: 'Files (opens in a new tab)' }).first().waitFor();
  await inspect(world, 'services');
  await page.getByRole('button', { name: 'Remove: Files' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('Its data is kept in its volumes.').waitFor();
  await dialog.getByLabel('Delete its data for good').check();
  await dialog.getByText('All of its data is deleted, for good.').waitFor();
  const remove = dialog.getByRole('button', { name: 'Remove and delete the data' });
  assert(await remove.isDisabled(), 'data goes without a word');
  await inspect(world, 'dialog-remove-service');
  await dialog.getByLabel('Type files to delete its data').fill('files');
  assert(await remove.isEnabled(), 'its name was typed');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  const back = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
  assert(back === 'Remove: Files', `the focus is at ${back}`);
  await end();
}

async function store(world) {
  const { page, url } = world;
  const offer = (id, change = {}) => ({
    ...{ id, title: id[0].toUpperCase() + id.slice(1), description: `All that ${id} is for, in a sentence or two.` },
    ...{ version: '1.2', digest: 'sha256:0', purpose: 'store', instanceable: false, requires: [], form: [] },
    ...{ installed: [], faults: [], has_way_out: false, exit_types: [], default_exit_type: null },
    ...change,
  });
  const catalog = [
    offer('calendar', { installed: ['calendar'] }),
    offer('email', { form: FORM }),
    offer('webmail', { requires: ['email'] }),
    offer('wiki', { faults: ['its digest is another one'] }),
  ];
  const asked = [];
  const install = (route) => {
    const body = route.request().postDataJSON();
    if (!route.request().url().includes('validate_only=true')) {
      asked.push(body);
      return json(route, { service: service('email', { phase: 'installing', step: 'network' }), plan: [] }, 202);
    }
    const plan = [
      'Email 1.2 is installed as email: 3 containers, at most 512 MiB of memory.',
      'Every device may reach it.',
    ];
    return json(route, { service: null, plan });
  };
  const installing = service('email', { phase: 'installing', step: 'network', published: false });
  const end = await madeUp(page, ALL, [
    [
      '**/api/store/catalog',
      (route) => json(route, { services: catalog, faults: ['wiki: its digest is another one'] }),
    ],
    ['**/api/services/email/install*', install],
    ['**/api/services/email', (route) => json(route, installing)],
    ['**/api/services/email/status', (route) => json(route, { service: installing, containers: [], fault: null })],
    ['**/api/services/email/secrets', (route) => json(route, { secrets: [] })],
    ['**/api/services/email/health/history', (route) => json(route, { entries: [] })],
  ]);
  await page.goto(`${url}/store`);
  await page.getByText('4 services').waitFor();
  await inspect(world, 'store');
  await page.getByLabel('Search').fill('mail');
  await page.getByText('2 services').waitFor();
  await page.getByRole('link', { name: 'Email', exact: true }).click();
  await page.getByText(/what happens\.$/).waitFor();
  // The browser's own check, by the manifest's pattern.
  await page.getByLabel('Domain of the addresses').fill('Not A Name');
  assert(await page.getByLabel('Domain of the addresses').evaluate((input) => !input.checkValidity()), 'it was taken');
  await page.getByLabel('Domain of the addresses').fill('nest.cell');
  assert(await page.getByLabel('Domain of the addresses').evaluate((input) => input.checkValidity()), 'it was refused');
  await page.getByLabel('Every device').check();
  await page.getByText('Every device may reach it.').waitFor();
  await page.getByLabel('Devices that I choose').check();
  await page.getByRole('switch', { name: 'ana-phone' }).check();
  await inspect(world, 'store-item');
  await page.getByRole('button', { name: 'Install' }).click();
  await page.waitForURL('**/services/email');
  await page.getByRole('list', { name: 'Progress' }).getByText('Network of its own').waitFor();
  await until(
    () => asked.length > 0,
    () => 'nothing was asked',
  );
  assert(asked.length === 1 && asked[0].allowed_peers.join() === 'ana-phone', JSON.stringify(asked));
  await inspect(world, 'service-installing');
  await end();
}

async function oneService(world) {
  const { page, url } = world;
  const files = ALL[1];
  const sent = [];
  const container = { address: '172.21.0.2', state: 'running', health: 'healthy', started_at: NOW, restart_count: 0 };
  const lines = Array.from(
    { length: 300 },
    (_, i) => `data: {"lines":["172.30.0.2 - GET /file-${i} 200"],"skipped":false}\n\n`,
  );
  const credentials = [
    { service: 'files', user: 'ana', password: 'not-a-real-password', where: ['https://files.nest.cell/dav/ana/'] },
  ];
  const history = ['healthy', 'unhealthy', 'healthy'].map((state, i) => ({
    at: `2026-11-2${i}T10:00:00Z`,
    state,
    detail: 'seen',
  }));
  const end = await madeUp(page, ALL, [
    ['**/api/services/files', (route) => json(route, files)],
    [
      '**/api/services/files/status',
      (route) =>
        json(route, {
          service: files,
          containers: [
            { ...container, name: 'webdav' },
            { ...container, name: 'accounts', health: null, restart_count: 2 },
          ],
          fault: null,
        }),
    ],
    [
      '**/api/services/files/access',
      (route) => {
        sent.push(route.request().postDataJSON().allowed_peers.join());
        return json(route, { ...files, ...route.request().postDataJSON() });
      },
    ],
    [
      '**/api/services/files/accounts',
      (route) => json(route, { accounts: [{ user: 'ben', peer: 'ben-laptop', created_at: NOW }] }),
    ],
    ['**/api/accounts', (route) => json(route, { credentials }, 201)],
    ['**/api/services/files/secrets', (route) => json(route, { secrets: [] })],
    ['**/api/services/files/health/history', (route) => json(route, { entries: history })],
    [
      '**/api/services/files/logs?follow=true*',
      (route) => route.fulfill({ contentType: 'text/event-stream', body: lines.join('') }),
    ],
    [
      '**/api/connectivity/services',
      (route) =>
        json(route, {
          services: [
            {
              ...{ service: 'files', bridge: 'cellsvc1', subnet: '172.21.0.0/28', egress: 'none', connection_id: null },
              ...{ connection_name: null, fail_open: null, way: 'nowhere', fallback_connection_ids: [] },
              ...{ fallback_connection_names: [], has_way_out: true, exit_types: ['wireguard_ext', 'tor'], reach: [] },
            },
          ],
        }),
    ],
    [
      '**/api/services/files/test',
      (route) =>
        json(route, {
          checks: [
            { name: 'containers', ok: true, detail: 'all run', ms: 2 },
            { name: 'name', ok: false, detail: 'nobody answers for files.nest.cell', ms: 1500 },
          ],
        }),
    ],
  ]);
  await page.goto(`${url}/services/files`);
  await page.getByRole('region', { name: 'Log of webdav' }).getByText('GET /file-299').waitFor();
  await page.getByRole('button', { name: 'Pause' }).click();
  await page.getByLabel('Filter').fill('file-29');
  await page.getByText('11 of 300 lines', { exact: false }).waitFor();
  await page.getByRole('switch', { name: 'ben-laptop' }).check();
  await page.getByRole('button', { name: 'Test now' }).click();
  await page.getByText('1 check fails.').waitFor();
  await until(
    () => sent.length > 0,
    () => 'nothing was sent',
  );
  assert(sent.join('|') === 'ana-phone,ben-laptop', `sent ${sent}`);
  await inspect(world, 'service');
  await page.getByRole('button', { name: 'Add account' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('For the device').fill('ana-phone');
  await dialog.getByRole('button', { name: 'Make the account' }).click();
  await dialog.getByLabel('Password', { exact: true }).waitFor();
  await inspect(world, 'dialog-account');
  await dialog.getByRole('button', { name: 'Done' }).click();
  assert(!(await page.content()).includes('not-a-real-password'), 'the password outlived the dialog');
  await end();
}

/** Of the page's main thread. */
const DRAWN_MILLIS = 2500;

async function matrix(world) {
  const { page, url } = world;
  const services = Array.from({ length: 20 }, (_, i) =>
    service(`service-${i}`, { title: i === 7 ? 'Calendar, contacts and more' : `Service ${i}`, everyone: i === 3 }),
  );
  const peers = Array.from({ length: 50 }, (_, i) => ({
    ...{ name: `device-${i}`, public_key: 'SrUWV2owBjXiPTjjyVRUfAwYFJcPBEp6GuGaNvsn2RA=', ipv4: `10.86.1.${i + 1}` },
    ...{ ipv6: `fd00::${i + 2}`, access: { internet: true, peer_to_peer: false, services: [] }, tunnel: 'full' },
    ...{ config_needs_reinstall: false, created_at: NOW, activity: null, fallback_connection_ids: [] },
  }));
  const sent = [];
  const end = await madeUp(page, services, [
    ['**/api/peers', (route) => json(route, { peers })],
    [
      '**/api/services/*/access',
      (route) => {
        const name = new URL(route.request().url()).pathname.split('/')[3];
        const body = route.request().postDataJSON();
        sent.push(`${name}: ${body.allowed_peers}`);
        return json(route, { ...services.find((one) => one.name === name), ...body });
      },
    ],
  ]);
  const took = await threadMillis(page, async () => {
    await page.goto(`${url}/access`);
    await page.getByRole('checkbox', { name: 'device-49 may use Service 19', exact: true }).waitFor();
  });
  const first = page.getByRole('checkbox', { name: 'Every device may use Service 0', exact: true });
  await first.focus();
  for (const key of ['ArrowDown', 'ArrowDown', 'ArrowRight', ' ', 'ArrowRight', ' ']) await page.keyboard.press(key);
  const focused = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
  assert(focused === 'device-1 may use Service 2', `the focus is at ${focused}`);
  await page.waitForFunction(() => document.querySelectorAll('td input:checked').length === 53);
  await until(
    () => sent.length >= 2,
    () => `sent ${sent}`,
  );
  assert(sent.sort().join('|') === 'service-1: device-1|service-2: device-1', sent.join('|'));
  await page.keyboard.press('Control+End');
  const last = await page.evaluate(() => document.activeElement?.getAttribute('aria-label'));
  assert(last === 'device-49 may use Service 19', `the end is ${last}`);
  await inspect(world, 'access');
  await end();
  return { value: took.toFixed(0), unit: 'ms of processor', goal: `< ${DRAWN_MILLIS}`, ok: took < DRAWN_MILLIS };
}

async function onPhone(world) {
  const { page, url } = world;
  const alert = {
    id: 'a1',
    service: 'files',
    since: NOW,
    severity: 'critical',
    text: 'webdav ended 3 times',
    acknowledged: false,
  };
  let acknowledged = false;
  const end = await madeUp(page, ALL, [
    ['**/api/alerts', (route) => json(route, { alerts: [{ ...alert, acknowledged }] })],
    [
      '**/api/alerts/a1/acknowledge',
      (route) => {
        acknowledged = true;
        return route.fulfill({ status: 204 });
      },
    ],
  ]);
  await page.setViewportSize(SIZES.phone);
  await page.goto(`${url}/services`);
  await page.getByRole('button', { name: 'Alerts: 1' }).click();
  await inspect(world, 'dialog-alerts');
  await page.setViewportSize(SIZES.phone);
  await page.getByRole('button', { name: 'Acknowledge: webdav ended 3 times' }).click();
  await page
    .getByRole('dialog')
    .getByText(/Acknowledged/)
    .waitFor();
  await page.keyboard.press('Escape');
  await page.getByRole('button', { name: 'Alerts: none' }).waitFor();
  await page.getByRole('button', { name: 'More' }).click();
  await page.getByRole('dialog').getByRole('link', { name: 'Files (opens in a new tab)' }).waitFor();
  await page.getByRole('dialog').getByRole('link', { name: 'Settings' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByText('WireGuard public key').waitFor();
  await page.setViewportSize(SIZES.desktop);
  await end();
}
