// Every page and dialog in three sizes and both themes: axe finds nothing, nothing scrolls sideways; a picture of each.

import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { assert, axeViolations } from '../lib.mjs';

const SIZES = {
  phone: { width: 390, height: 844 },
  tablet: { width: 820, height: 1180 },
  desktop: { width: 1440, height: 900 },
};
const THEMES = ['light', 'dark'];

const STATES = {
  home: ['/', (page) => page.getByText('Last changes').waitFor()],
  devices: ['/devices', (page) => page.getByText(/in all$/).waitFor()],
  'devices-none-match': ['/devices?q=nothing-like-it', (page) => page.getByText('No device matches').waitFor()],
  device: ['/devices/ana-phone', (page) => page.getByRole('switch', { name: 'Internet' }).waitFor()],
  'device-gone': ['/devices/nobody', (page) => page.getByText('There is no device of this name').waitFor()],
  activity: ['/activity', (page) => page.getByText('The log is intact').waitFor()],
  people: ['/people', (page) => page.getByText('you', { exact: false }).first().waitFor()],
  settings: ['/settings', (page) => page.getByText('WireGuard public key').waitFor()],
  'not-found': ['/no/such/page', (page) => page.getByText('There is no such page').waitFor()],
  'dialog-add': ['/devices', openAdd],
  'dialog-remove': ['/devices/ana-phone', (page) => page.getByRole('button', { name: 'Remove device' }).click()],
  'dialog-new-key': ['/devices/ana-phone', (page) => page.getByRole('button', { name: 'New key' }).click()],
  'dialog-person': ['/people', (page) => page.getByRole('button', { name: 'Add person' }).click()],
};

export const specs = [
  ...Object.entries(STATES).map(([name, [path, reach]]) => [
    `looks: ${name}`,
    (world) => look(world, name, path, reach),
  ]),
  ['320 px wide and 200 % text: nothing scrolls sideways', narrow],
  ['the theme switch overrules the system and survives a reload', theme],
];

async function look(world, name, path, reach) {
  const { page, url, recorder, pictures } = world;
  recorder.allow(/status of 404 .*\/api\/peers\/nobody$/);
  mkdirSync(pictures, { recursive: true });
  const found = [];
  for (const [size, viewport] of Object.entries(SIZES)) {
    await page.setViewportSize(viewport);
    await page.goto(url + path);
    await reach(page);
    await page.waitForLoadState('load');
    for (const scheme of THEMES) {
      await page.emulateMedia({ colorScheme: scheme, reducedMotion: 'reduce' });
      // Colours change by a transition where motion is allowed; axe must see the end of it.
      await page.waitForTimeout(150);
      for (const violation of await axeViolations(page)) found.push(`${size} ${scheme} ${violation}`);
      if (await sideways(page)) found.push(`${size} ${scheme} scrolls sideways`);
      await page.screenshot({ path: join(pictures, `${name}-${size}-${scheme}.png`) });
    }
  }
  await page.setViewportSize(SIZES.desktop);
  assert(found.length === 0, [...new Set(found)].join('\n'));
}

async function openAdd(page) {
  await page.getByRole('button', { name: 'Add device' }).first().click();
  await page.getByLabel('Name of the device').waitFor();
  await page.getByRole('button', { name: 'Add a service' }).click();
  await page.getByText('More options').click();
  await page.getByLabel('The device has made its own').check();
}

async function narrow({ page, url }) {
  const wide = [];
  for (const [name, [path, reach]] of Object.entries(STATES)) {
    await page.setViewportSize({ width: 320, height: 800 });
    await page.goto(url + path);
    await reach(page);
    if (await sideways(page)) wide.push(`${name} at 320 px`);
    // 200 % text on a desktop is half the width in CSS pixels of it (WCAG 1.4.4, 1.4.10).
    await page.setViewportSize({ width: 720, height: 450 });
    if (await sideways(page)) wide.push(`${name} at 200 %`);
  }
  await page.setViewportSize(SIZES.desktop);
  assert(wide.length === 0, wide.join(', '));
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

function sideways(page) {
  return page.evaluate(() => {
    const dialog = document.querySelector('dialog[open]');
    const root = document.documentElement;
    return root.scrollWidth > root.clientWidth || (dialog !== null && dialog.scrollWidth > dialog.clientWidth);
  });
}
