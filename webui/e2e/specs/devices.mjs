// Devices: adding in two clicks, the same without a mouse, access, a new key, removal.

import { readFileSync } from 'node:fs';
import { agree, assert, privateKeyOf, readQr, wgPublicKey } from '../lib.mjs';

export const specs = [
  ['add a device from anywhere: 2 clicks', twoClicks],
  ['download and copy hold what the code holds; closing clears it and gives focus back', outputs],
  ['add a device without a mouse', keyboard],
  ['a device with its own key gets no code', ownKey],
  ['a key made by the cell, as an explicit choice', serverKey],
  ['complaints of the cell show at their fields', complaints],
  ['edit access, seen again after a reload', editAccess],
  ['a new key: warned first, then a new code', newKey],
  ['filter and order live in the address; back and reload keep them', filters],
  ['remove a device: asked first, then gone', remove],
];

const created = (page) =>
  page.waitForResponse((r) => r.request().method() === 'POST' && r.url().endsWith('/api/peers'));

async function twoClicks(world) {
  const { page, url } = world;
  await page.goto(`${url}/settings`);
  let clicks = 0;
  await page.exposeFunction('countClick', () => clicks++);
  await page.evaluate(() =>
    document.addEventListener('click', (event) => event.isTrusted && window.countClick(), true),
  );
  await page.getByRole('button', { name: 'Add device' }).click();
  await page.locator('input[name=name]:focus').waitFor();
  await page.keyboard.type('ana-phone');
  const [answer] = await Promise.all([created(page), page.getByRole('button', { name: 'Create' }).click()]);
  const body = answer.request().postDataJSON();
  await page.getByTestId('qr').waitFor();
  assert(clicks === 2, `${clicks} clicks`);
  assert(Object.keys(body).sort().join() === 'access,name,public_key', `sent: ${Object.keys(body)}`);
  assert(!(await answer.text()).match(/PrivateKey = [A-Za-z0-9+/]/), 'the answer holds a private key');
  world.anaPublicKey = body.public_key;
}

async function outputs(world) {
  const { page, context } = world;
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  const code = (await readQr(page.getByTestId('qr'), world.pictures)).trimEnd();
  const download = page.waitForEvent('download');
  await page.getByRole('button', { name: 'Download file' }).click();
  const file = await download;
  assert(file.suggestedFilename() === 'ana-phone.conf', file.suggestedFilename());
  const saved = readFileSync(await file.path(), 'utf8');
  assert(saved.trimEnd() === code, 'the file differs from the code');
  await page.getByRole('button', { name: 'Copy configuration' }).click();
  await page.getByText('Copied').waitFor();
  assert((await page.evaluate(() => navigator.clipboard.readText())) === saved, 'the clipboard differs from the file');
  const privateKey = privateKeyOf(saved);
  world.privateKeys.push(privateKey);
  assert(wgPublicKey(privateKey) === world.anaPublicKey, 'the keys do not belong together');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert(!(await page.content()).includes(privateKey), 'the private key outlived the dialog');
  assert(
    await page.getByRole('button', { name: 'Add device' }).evaluate((e) => e === document.activeElement),
    'focus is lost',
  );
}

async function keyboard(world) {
  const { page, url } = world;
  await page.goto(url);
  await page.getByRole('button', { name: 'Add device' }).first().waitFor();
  await page.keyboard.press('Tab');
  assert((await focused(page)) === 'Skip to content', `first is ${await focused(page)}`);
  await tabTo(page, 'Add device');
  await page.keyboard.press('Enter');
  await page.getByLabel('Name of the device').waitFor();
  assert((await focused(page)) === 'Name of the device', `focus on ${await focused(page)}`);
  await page.keyboard.type('ben-laptop');
  await tabTo(page, 'Other devices');
  await page.keyboard.press('Space');
  await tabTo(page, 'Add a service');
  await page.keyboard.press('Enter');
  await tabTo(page, 'Address', true);
  await page.keyboard.type('192.168.1.5');
  await tabTo(page, 'Port');
  await page.keyboard.type('631');
  await tabTo(page, 'Create');
  await page.keyboard.press('Enter');
  await page.getByTestId('qr').waitFor();
  world.privateKeys.push(privateKeyOf(await page.getByLabel('Configuration', { exact: true }).inputValue()));
  await tabTo(page, 'Done');
  await page.keyboard.press('Enter');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  assert((await focused(page)) === 'Add device', `focus went to ${await focused(page)}`);
}

async function ownKey({ page }) {
  await openForm(page, 'own-key');
  await page.getByText('More options').click();
  await page.getByLabel('The device has made its own').check();
  await page.getByLabel('Public key').fill('nonsense');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.getByText('A WireGuard public key has 44 characters').waitFor();
  await page.getByLabel('Public key').fill('kDvWN0PhgcZpVhZ8yM8VjFLgWKYpZ0nMlTTBnj3SW0Q=');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.getByText('The device keeps its private key').waitFor();
  assert((await page.getByTestId('qr').count()) === 0, 'a code without a key');
  assert(/^PrivateKey = ?$/m.test(await page.getByLabel('Configuration', { exact: true }).inputValue()), 'key line');
  await page.getByRole('button', { name: 'Done' }).click();
}

async function serverKey({ page }) {
  await openForm(page, 'server-key');
  await page.getByText('More options').click();
  await page.getByLabel('Made by the cell').check();
  const [answer] = await Promise.all([created(page), page.getByRole('button', { name: 'Create' }).click()]);
  const { peer, config } = await answer.json();
  await page.getByTestId('qr').waitFor();
  assert(wgPublicKey(privateKeyOf(config)) === peer.public_key, 'the keys do not belong together');
  await page.getByRole('button', { name: 'Done' }).click();
}

async function complaints({ page, recorder }) {
  recorder.allow(/status of 4(00|09|22) .*\/api\/peers$/);
  await openForm(page, 'ana-phone');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.locator('[aria-invalid=true][name=name]').waitFor();
  await page.getByLabel('Name of the device').fill('good-name');
  await page.getByRole('button', { name: 'Add a service' }).click();
  await page.getByLabel('Address').fill('not-an-address');
  await page.getByLabel('Port').fill('80');
  await page.getByRole('button', { name: 'Create' }).click();
  await page.locator('[aria-invalid=true]:not([name=name])').waitFor();
  assert((await page.locator('[aria-invalid=true]').inputValue()) === 'not-an-address', 'the wrong field complains');
  await page.keyboard.press('Escape');
}

async function editAccess({ page, url }) {
  await page.goto(`${url}/devices/ana-phone`);
  await page.getByRole('switch', { name: 'Internet' }).click();
  await page.getByRole('switch', { name: 'Other devices' }).click();
  await page.getByRole('button', { name: 'Add a service' }).click();
  await page.getByLabel('Address').fill('192.168.7.9');
  await page.getByLabel('Port').fill('8096');
  await page.getByRole('button', { name: 'Save' }).click();
  const dialog = page.getByRole('dialog');
  await dialog.getByText('ana-phone loses the internet.').waitFor();
  await dialog.getByText('ana-phone gains TCP port 8096 of 192.168.7.9 on a private network.').waitFor();
  await agree(page, page.getByText('Saved and handed to the network.'));
  await page.reload();
  await page.getByRole('switch', { name: 'Internet' }).waitFor();
  assert(!(await page.getByRole('switch', { name: 'Internet' }).isChecked()), 'Internet is on again');
  assert(await page.getByRole('switch', { name: 'Other devices' }).isChecked(), 'Other devices is off again');
  assert((await page.getByLabel('Address').inputValue()) === '192.168.7.9', 'the service is lost');
}

async function newKey(world) {
  const { page } = world;
  const shown = () =>
    page
      .getByRole('main')
      .getByText(/^[A-Za-z0-9+/]{43}=$/)
      .textContent();
  const before = await shown();
  await page.getByRole('button', { name: 'New key' }).click();
  await page.getByText('stops working').waitFor();
  await page.getByRole('button', { name: 'Make new key' }).click();
  await agree(page, page.getByTestId('qr'));
  const config = await page.getByLabel('Configuration', { exact: true }).inputValue();
  assert((await readQr(page.getByTestId('qr'), world.pictures)).trimEnd() === config.trimEnd(), 'code');
  const privateKey = privateKeyOf(config);
  world.privateKeys.push(privateKey);
  await page.getByRole('button', { name: 'Done' }).click();
  await page.getByText(wgPublicKey(privateKey)).waitFor();
  assert((await shown()) !== before, 'the key is the old one');
}

async function filters({ page, url }) {
  await page.goto(`${url}/devices`);
  await page.getByRole('table').waitFor();
  await page.getByRole('searchbox').fill('ben');
  await page.getByText(/^1 of \d+$/).waitFor();
  await page.getByRole('columnheader', { name: 'Address' }).getByRole('button').click();
  assert(new URL(page.url()).search === '?q=ben&sort=address', page.url());
  await page.getByRole('link', { name: 'ben-laptop' }).first().click();
  await page.getByRole('heading', { name: 'ben-laptop' }).waitFor();
  await page.goBack();
  await page.getByText(/^1 of \d+$/).waitFor();
  await page.reload();
  await page.getByText(/^1 of \d+$/).waitFor();
  assert((await page.getByRole('searchbox').inputValue()) === 'ben', 'the filter is lost');
}

async function remove({ page, url, recorder }) {
  // The event of the removal may come before its answer, while the page still shows the device.
  recorder.allow(/status of 404 .*\/api\/peers\/server-key$/);
  await page.goto(`${url}/devices/server-key`);
  await page.getByRole('button', { name: 'Remove device' }).click();
  assert((await focused(page)) === 'Cancel', 'the safe choice has no focus');
  await page.keyboard.press('Escape');
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByRole('button', { name: 'Remove device' }).click();
  await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
  await page.getByRole('heading', { name: 'Devices', exact: true }).waitFor();
  await page.getByRole('table').waitFor();
  assert((await page.getByRole('link', { name: 'server-key' }).count()) === 0, 'it is still there');
}

async function openForm(page, name) {
  await page.getByRole('button', { name: 'Add device' }).first().click();
  await page.getByLabel('Name of the device').fill(name);
}

/** What a screen reader would say of the focused element. */
function focused(page) {
  return page.evaluate(() => {
    const element = document.activeElement;
    const label = element?.labels?.[0]?.textContent ?? element?.getAttribute('aria-label') ?? element?.textContent;
    return label?.trim() ?? '';
  });
}

async function tabTo(page, name, backwards = false) {
  for (let i = 0; i < 40; i++) {
    if ((await focused(page)) === name) return;
    await page.keyboard.press(backwards ? 'Shift+Tab' : 'Tab');
  }
  throw new Error(`no way to ${name} by the Tab key`);
}
