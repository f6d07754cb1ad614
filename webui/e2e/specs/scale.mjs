// Ten thousand devices in the list. They are made up here, in the answer: what is measured is the page.

import { assert, threadMillis } from '../lib.mjs';

export const specs = [
  ['10,000 devices: the list is drawn', drawn],
  ['10,000 devices: one is found while typing', found],
];

const COUNT = 10_000;
/** Of the page's main thread. */
const DRAWN_MILLIS = 2000;
const KEY_MILLIS = 100;

function peers() {
  return Array.from({ length: COUNT }, (_, i) => ({
    name: `device-${i}`,
    public_key: 'SrUWV2owBjXiPTjjyVRUfAwYFJcPBEp6GuGaNvsn2RA=',
    ipv4: `10.${86 + Math.floor(i / 62_500)}.${Math.floor(i / 250) % 250}.${(i % 250) + 2}`,
    ipv6: `fd00::${(i + 2).toString(16)}`,
    access: { internet: i % 2 === 0, peer_to_peer: i % 3 === 0, services: [] },
    tunnel: 'full',
    config_needs_reinstall: false,
    created_at: '2026-11-20T10:00:00Z',
    activity: { connected: false, endpoint: null, latest_handshake_at: null, received_bytes: i, sent_bytes: 2 * i },
  }));
}

async function drawn(world) {
  const { page, url } = world;
  const body = JSON.stringify({ peers: peers() });
  await page.route('**/api/peers', (route) => route.fulfill({ contentType: 'application/json', body }));
  const took = await threadMillis(page, async () => {
    await page.goto(`${url}/devices`);
    await page.getByText('10,000 in all').waitFor();
  });
  assert((await page.getByRole('row').count()) === 51, `${await page.getByRole('row').count()} rows`);
  return { value: took.toFixed(0), unit: 'ms of processor', goal: `< ${DRAWN_MILLIS}`, ok: took < DRAWN_MILLIS };
}

async function found({ page }) {
  const text = 'device-9876';
  const took = await threadMillis(page, async () => {
    await page.getByRole('searchbox').pressSequentially(text);
    await page.getByText('1 of 10,000').waitFor();
  });
  const each = took / text.length;
  await page.unroute('**/api/peers');
  return { value: each.toFixed(1), unit: 'ms of processor a key', goal: `< ${KEY_MILLIS}`, ok: each < KEY_MILLIS };
}
