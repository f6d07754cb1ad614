// Every page and dialog of an administrator; lib.mjs says what is looked at.

import { assert, inspect } from '../lib.mjs';

const STATES = {
  home: ['/', (page) => page.getByText('Last changes').waitFor()],
  devices: ['/devices', (page) => page.getByText(/in all$/).waitFor()],
  'devices-none-match': ['/devices?q=nothing-like-it', (page) => page.getByText('No device matches').waitFor()],
  device: ['/devices/ana-phone', (page) => page.getByRole('switch', { name: 'Internet' }).waitFor()],
  'device-gone': ['/devices/nobody', (page) => page.getByText('There is no device of this name').waitFor()],
  'exits-none': ['/exits', (page) => page.getByText('No exits yet').waitFor()],
  'dialog-exit': ['/exits', (page) => page.getByRole('button', { name: 'Add exit' }).click()],
  activity: ['/activity', openActivity],
  people: ['/people', (page) => page.getByText('you', { exact: false }).first().waitFor()],
  settings: ['/settings', (page) => page.getByText('WireGuard public key').waitFor()],
  'not-found': ['/no/such/page', (page) => page.getByText('There is no such page').waitFor()],
  'dialog-add': ['/devices', openAdd],
  'dialog-remove': ['/devices/ana-phone', (page) => page.getByRole('button', { name: 'Remove device' }).click()],
  'dialog-new-key': ['/devices/ana-phone', (page) => page.getByRole('button', { name: 'New key' }).click()],
  'dialog-own-password': ['/people', (page) => page.getByRole('button', { name: 'Change password' }).click()],
  'dialog-person': ['/people', (page) => page.getByRole('button', { name: 'Add person' }).click()],
};

export const specs = [
  ...Object.entries(STATES).map(([name, [path, reach]]) => [
    `looks: ${name}`,
    (world) => look(world, name, path, reach),
  ]),
  ['the theme switch overrules the system and survives a reload', theme],
];

async function look(world, name, path, reach) {
  const { page, url, recorder } = world;
  recorder.allow(/status of 404 .*\/api\/peers\/nobody$/);
  await page.goto(url + path);
  await reach(page);
  await page.waitForLoadState('load');
  await inspect(world, name);
}

async function openActivity(page) {
  await page.getByText(/^Records \d+–\d+ of \d+$/).waitFor();
  await page.getByRole('button', { name: 'Check the log' }).click();
  await page.getByText('The log is intact').waitFor();
}

async function openAdd(page) {
  await page.getByRole('button', { name: 'Add device' }).first().click();
  await page.getByLabel('Name of the device').waitFor();
  await page.getByRole('button', { name: 'Add a service' }).click();
  await page.getByText('More options').click();
  await page.getByLabel('The device has made its own').check();
}

async function theme({ page, url }) {
  await page.emulateMedia({ colorScheme: 'light' });
  await page.goto(`${url}/settings`);
  const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const light = await background();
  await page.getByRole('radio', { name: 'Dark' }).first().check();
  const dark = await background();
  assert(light !== dark, 'nothing changed');
  await page.reload();
  assert((await background()) === dark, 'the choice is lost');
  await page.getByRole('radio', { name: 'System' }).first().check();
  assert((await background()) === light, 'the system is not followed');
}
