// People, passwords, signing out, the lock. Last, because the lock slows this address down.

import { assert, axeViolations } from '../lib.mjs';

const MEMBER = {
  username: 'ben-laptop',
  first: 'first password here',
  second: 'somebody set this one',
  own: 'a better one for ben',
};

export const specs = [
  ['add a person', addPerson],
  ['set somebody’s password: they must choose their own', setPassword],
  ['sign out; the pages are gone', signOut],
  ['the member chooses a password and sees the own device alone', member],
  ['five wrong passwords: locked, with a countdown and the way out', lock],
];

async function addPerson({ page, url }) {
  await page.goto(`${url}/people`);
  await page.getByRole('button', { name: 'Add person' }).click();
  await page.getByLabel('User name').fill(MEMBER.username);
  await page.getByLabel('First password').fill(MEMBER.first);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByText('Member', { exact: true }).waitFor();
}

async function setPassword({ page }) {
  await page.getByRole('button', { name: `Set password: ${MEMBER.username}` }).click();
  await page.getByRole('textbox', { name: 'New password' }).fill(MEMBER.second);
  await page.getByRole('button', { name: 'Save' }).click();
  await page.getByRole('dialog').waitFor({ state: 'detached' });
  await page.getByText('must choose a password').waitFor();
}

async function signOut({ page, url }) {
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  await page.goto(`${url}/devices`);
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert((await page.getByText('ana-phone').count()) === 0, 'a device is still shown');
  assert((await axeViolations(page)).length === 0, (await axeViolations(page)).join('\n'));
}

async function member({ page }) {
  await signIn(page, MEMBER.username, MEMBER.second);
  await page.getByLabel('Current password').fill(MEMBER.second);
  await page.getByLabel('New password').fill(MEMBER.own);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByRole('heading', { name: 'Your device' }).waitFor();
  await page.getByRole('heading', { name: MEMBER.username }).waitFor();
  assert((await page.getByRole('button', { name: 'Add device' }).count()) === 0, 'a member may add devices');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
}

async function lock({ page, recorder, pictures }) {
  recorder.allow(/status of (401|429) .*\/api\/auth\/login$/);
  for (let i = 0; i < 6; i++) {
    // The lock, or the throttle of the address, whichever comes first, ends in the same words.
    if (await page.getByText(/You can try again in \d+:\d\d/).isVisible()) break;
    const answered = (response) => response.url().endsWith('/api/auth/login');
    await Promise.all([page.waitForResponse(answered), signIn(page, MEMBER.username, 'a wrong password')]);
    await page.waitForTimeout(300);
  }
  await page.getByText(/You can try again in \d+:\d\d/).waitFor();
  assert(await page.getByRole('button', { name: /Try again in/ }).isDisabled(), 'it can be tried at once');
  await page.getByText('Lost your password?').click();
  assert(await page.getByText(/Ask an administrator/).isVisible(), 'no way out is shown');
  assert((await axeViolations(page)).length === 0, (await axeViolations(page)).join('\n'));
  await page.screenshot({ path: `${pictures}/locked.png` });
}

async function signIn(page, username, password) {
  await page.getByLabel('User name').fill(username);
  await page.getByLabel('Password', { exact: true }).fill(password);
  await page.keyboard.press('Enter');
}
