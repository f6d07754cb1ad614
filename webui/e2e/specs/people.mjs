// People, passwords, signing out, the lock. Last, because the lock slows this address down.

import { assert, inspect, signIn } from '../lib.mjs';

const MEMBER = {
  username: 'ben-laptop',
  first: 'first password here',
  second: 'somebody set this one',
  own: 'a better one for ben',
};

export const specs = [
  ['add a person', addPerson],
  ['set somebody’s password: they must choose their own', setPassword],
  ['change the own password: the other session ends, says so, and goes on where it was', ownPassword],
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

async function ownPassword(world) {
  const { browser, page, url, admin, recorder } = world;
  // Whatever the other session asks next says that it has ended.
  recorder.allow(
    /status of 40[13] .*\/api\/(auth\/|events|status|peers|audit|config|services\/active|network\/pending|alerts)/,
  );
  const other = await browser.newContext({ reducedMotion: 'reduce' });
  try {
    await recorder.watch(other);
    const elsewhere = await other.newPage();
    await elsewhere.goto(`${url}/devices?q=ben`);
    await signIn(elsewhere, admin.username, admin.password);
    await elsewhere.getByText(/^1 of \d+$/).waitFor();
    await page.goto(`${url}/people`);
    await page.getByRole('button', { name: 'Change password' }).click();
    await page.getByLabel('Current password').fill('not the one');
    await page.getByRole('textbox', { name: 'New password' }).fill('a new password for all');
    await page.getByRole('dialog').getByRole('button', { name: 'Change password' }).click();
    await page.locator('[aria-invalid=true][name=current_password]').waitFor();
    await page.getByLabel('Current password').fill(admin.password);
    await page.getByRole('dialog').getByRole('button', { name: 'Change password' }).click();
    await page.getByText('Your password is changed').waitFor();
    admin.password = 'a new password for all';
    await elsewhere.getByText('Your session has ended').waitFor();
    assert((await elsewhere.getByText('ben-laptop').count()) === 0, 'a device is still shown');
    await signIn(elsewhere, admin.username, admin.password);
    await elsewhere.getByText(/^1 of \d+$/).waitFor();
    assert(elsewhere.url() === `${url}/devices?q=ben`, elsewhere.url());
  } finally {
    await other.close();
  }
  await page.keyboard.press('Escape');
}

async function signOut(world) {
  const { page, url } = world;
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  await page.goto(`${url}/devices`);
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
  assert((await page.getByText('ana-phone').count()) === 0, 'a device is still shown');
  assert((await page.getByText('has ended').count()) === 0, 'whoever signs out is told that the session ended');
  await inspect(world, 'login');
}

async function member(world) {
  const { page } = world;
  await signIn(page, MEMBER.username, MEMBER.second);
  await page.getByLabel('Current password').waitFor();
  await inspect(world, 'choose-password');
  await page.getByLabel('Current password').fill(MEMBER.second);
  await page.getByLabel('New password').fill(MEMBER.own);
  await page.getByRole('button', { name: 'Change password' }).click();
  await page.getByRole('heading', { name: 'Your device' }).waitFor();
  await page.getByRole('heading', { name: MEMBER.username }).waitFor();
  await inspect(world, 'mine');
  assert((await page.getByRole('button', { name: 'Add device' }).count()) === 0, 'a member may add devices');
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByRole('button', { name: 'Sign in' }).waitFor();
}

async function lock(world) {
  const { page, recorder } = world;
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
  await inspect(world, 'locked');
}
