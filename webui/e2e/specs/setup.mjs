// The first run: claim, name, network, administrator, first device.

import { assert, inspect, privateKeyOf, readQr, wgPublicKey } from '../lib.mjs';

export const specs = [
  ['a fresh cell shows the wizard, whatever the address', fresh],
  ['a wrong claim code is refused, the right one goes on', claim],
  ['identity and network: complaints at their fields, back and forth', network],
  ['the administrator is made and signed in', admin],
  ['the first device: asked for the endpoint, code decodes to the configuration', firstDevice],
];

async function fresh(world) {
  const { page, url } = world;
  await page.goto(`${url}/devices`);
  await page.getByLabel('Claim code').waitFor();
  assert((await page.title()).includes('Set up'), 'title');
  await inspect(world, 'setup-claim');
}

async function claim(world) {
  const { page, token, recorder } = world;
  recorder.allow(/status of 403 .*\/api\/setup\/step\/claim$/);
  await page.getByLabel('Claim code').fill('not-the-code');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('alert').waitFor();
  await page.getByLabel('Claim code').fill(token);
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('heading', { name: 'Name your cell' }).waitFor();
  const kept = await page.evaluate(() =>
    JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie, location.href]),
  );
  assert(!kept.includes(token), 'the claim code is kept somewhere');
  await inspect(world, 'setup-identity');
}

async function network(world) {
  const { page, recorder } = world;
  recorder.allow(/status of 4(00|22) .*\/api\/setup\/step\/(identity|network)$/);
  await page.getByLabel('Name', { exact: true }).fill('bad_name');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('[aria-invalid=true][name=cell_name]').waitFor();
  await page.getByLabel('Name', { exact: true }).fill('nest');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByLabel('VPN range').fill('8.8.8.0/24');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.locator('[aria-invalid=true][name=vpn_range_ipv4]').waitFor();
  await inspect(world, 'setup-network');
  await page.getByRole('button', { name: 'Back' }).click();
  await page.getByLabel('Name', { exact: true }).waitFor();
  assert((await page.getByLabel('Name', { exact: true }).inputValue()) === 'nest', 'Back forgot the name');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByLabel('VPN range').fill('10.86.0.0/24');
  await page.getByRole('button', { name: 'Continue' }).click();
  await page.getByRole('heading', { name: 'Who are you?' }).waitFor();
}

async function admin(world) {
  const { page, recorder } = world;
  const { username, password } = world.admin;
  recorder.allow(/status of 4(00|22) .*\/api\/setup\/step\/admin$/);
  await page.getByLabel('User name').fill(username);
  await page.getByLabel('Password', { exact: true }).fill('short');
  await page.getByRole('button', { name: 'Finish' }).click();
  await page.locator('[aria-invalid=true][name=password]').waitFor();
  await inspect(world, 'setup-admin');
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.getByRole('button', { name: 'Finish' }).click();
  await page.getByRole('heading', { name: 'Your cell is ready' }).waitFor();
  await page.getByLabel('Name of the device').waitFor();
  await inspect(world, 'welcome');
}

async function firstDevice(world) {
  const { page } = world;
  await page.getByLabel('Name of the device').fill('first-phone');
  await page.getByLabel('Public name or address').fill('nest.example.net');
  const sent = page.waitForRequest((request) => request.method() === 'POST' && request.url().endsWith('/api/peers'));
  await page.getByRole('button', { name: 'Create' }).click();
  const body = (await sent).postDataJSON();
  await page.getByTestId('qr').waitFor();
  const config = await page.getByLabel('Configuration', { exact: true }).inputValue();
  const code = await readQr(page.getByTestId('qr'), world.pictures);
  assert(code === config || code === `${config}\n`, `the code holds something else:\n${code}\n---\n${config}`);
  const privateKey = privateKeyOf(config);
  world.privateKeys.push(privateKey);
  assert(wgPublicKey(privateKey) === body.public_key, 'the public key sent does not belong to the private key');
  assert(/^Endpoint = nest\.example\.net:\d+$/m.test(config), config);
  await inspect(world, 'first-device');
  await page.getByRole('button', { name: 'Done' }).click();
  await page
    .getByRole('link', { name: /^Devices on now/ })
    .or(page.getByText('not known which devices are on'))
    .waitFor();
  assert(!(await page.content()).includes(privateKey), 'the private key outlived the page');
}
