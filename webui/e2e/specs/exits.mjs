// Exits: added from what a provider hands out, used by a device, and not deleted while it is used.

import { agree, assert, inspect } from '../lib.mjs';

const SECRET = 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=';
const FILE = [
  '[Interface]',
  `PrivateKey = ${SECRET}`,
  'Address = 10.2.0.2/32',
  '[Peer]',
  'PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=',
  'AllowedIPs = 0.0.0.0/0',
  'Endpoint = 192.0.2.1:51820',
].join('\n');

export const specs = [
  ['a fault in a provider’s file shows at its field; the mended file is an exit', add],
  ['a device uses an exit, and is let out directly only after a question', bind],
  ['an exit in use is not deleted, and the refusal names who uses it', inUse],
  ['what is bound again is shown on the device’s own page; the exit goes', remove],
];

async function add(world) {
  const { page, url, recorder } = world;
  recorder.allow(/status of 400 .*\/api\/connectivity\/connections$/);
  await page.goto(url);
  await page.getByRole('link', { name: 'Exits' }).first().click();
  await page.getByRole('button', { name: 'Add exit' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByLabel('Name').fill('provider');
  await dialog.getByLabel('Configuration file').fill(FILE.replace('Address', 'PostUp = reboot\nAddress'));
  await dialog.getByRole('button', { name: 'Save' }).click();
  await dialog.getByText(/^line 3 \(PostUp\): /i).waitFor();
  await dialog.locator('textarea[aria-invalid=true]').waitFor();
  await dialog.getByLabel('Configuration file').fill(FILE);
  await dialog.getByRole('button', { name: 'Save' }).click();
  await dialog.waitFor({ state: 'detached' });
  await page.getByRole('list', { name: 'All exits' }).getByText('provider', { exact: true }).waitFor();
  assert(!(await page.content()).includes(SECRET), 'the key outlived the dialog');
}

async function bind({ page, url }) {
  await page.goto(`${url}/devices/ben-laptop`);
  await page.getByLabel('Goes out through').selectOption('provider');
  await agree(page, page.getByText('Nothing of this device reaches the internet while its exit does not work.'));
  await page.getByLabel('While that does not work').selectOption('Goes out directly');
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Let it out' }).waitFor();
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  const kept = await page.getByLabel('While that does not work').inputValue();
  assert(kept === 'default', `given up without a yes: ${kept}`);
  await page.getByLabel('While that does not work').selectOption('Nothing goes out');
  // It is asked about, then made, and shown when it is stored.
  await page.locator('select:enabled:has(option[value="no"]:checked)').waitFor();
  await page.reload();
  await page.getByLabel('While that does not work').waitFor();
  const stored = await page.getByLabel('While that does not work').inputValue();
  assert(stored === 'no', `stored: ${stored}`);
}

async function inUse(world) {
  const { page, url, recorder } = world;
  recorder.allow(/status of 409 .*\/api\/connectivity\/connections\//);
  await page.goto(`${url}/exits`);
  await page.getByText('Used by ben-laptop').waitFor();
  await inspect(world, 'exits');
  await page.getByRole('button', { name: 'Delete: provider' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByRole('button', { name: 'Delete' }).click();
  await dialog.getByText(/bind them to another first: ben-laptop/).waitFor();
  await page.keyboard.press('Escape');
}

async function remove({ page, url }) {
  await page.goto(`${url}/exits`);
  const row = page.getByRole('listitem', { name: 'ben-laptop' });
  await row.getByLabel('Goes out through').selectOption('The cell’s own line');
  await agree(page, page.getByText('No device uses it'));
  await page.getByRole('button', { name: 'Delete: provider' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Delete' }).click();
  await page.getByText('No exits yet').waitFor();
}
