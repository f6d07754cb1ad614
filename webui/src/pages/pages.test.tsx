import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { delay, HttpResponse, http } from 'msw';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { App } from '../App';
import type { Peer } from '../api/gen';
import { makeQueryClient } from '../api/queryClient';
import { CONFIG, get, ME, NO_RECORDS, peer, problem, SETUP, STATUS, seen, show, VERDICT } from '../test/cell';
import { server } from '../test/setup';

/** The browser's EventSource, opened and broken by hand. */
class FakeStream extends EventTarget {
  static all: FakeStream[] = [];
  closed = false;
  constructor(readonly url: string) {
    super();
    FakeStream.all.push(this);
  }
  close() {
    this.closed = true;
  }
  static get last(): FakeStream {
    const last = FakeStream.all.at(-1);
    if (!last) throw new Error('no stream was opened');
    return last;
  }
}

function signedIn(peers: Peer[]) {
  server.use(
    get('/api/auth/me', ME),
    get('/api/auth/csrf-token', { csrf_token: 't' }),
    get('/api/status', { ...STATUS, peer_count: peers.length }),
    get('/api/config', CONFIG),
    get('/api/peers', { peers }),
    http.get('/api/peers/:name', ({ params }) => HttpResponse.json(peer(String(params.name)))),
    get('/api/audit', NO_RECORDS),
    get('/api/connectivity/connections', { connections: [] }),
  );
}

/** The whole UI at an address. */
function open(path: string) {
  window.history.replaceState(null, '', path);
  const queries = makeQueryClient();
  queries.setDefaultOptions({ queries: { ...queries.getDefaultOptions().queries, retry: false } });
  return show(<App queries={queries} />, path);
}

beforeEach(() => {
  FakeStream.all = [];
  vi.stubGlobal('EventSource', FakeStream);
});
afterEach(() => vi.unstubAllGlobals());

describe('first run', () => {
  it('goes from the claim to the first device, with the token on every step and complaints at their fields', async () => {
    const user = userEvent.setup();
    const tokens: (string | null)[] = [];
    const answered: string[] = [];
    let complete = false;
    const status = () => ({ ...SETUP, complete, claimed: answered.length > 0, answered_steps: answered });
    server.use(
      http.get('/api/auth/me', () => (complete ? problem(401, 'NO_SESSION') : problem(428, 'SETUP_REQUIRED'))),
      http.get('/api/setup/status', () => HttpResponse.json(status())),
      http.get('/api/setup/step/:step', ({ params }) =>
        HttpResponse.json({ step: params.step, answered: false, values: {} }),
      ),
      http.post('/api/setup/step/:step', async ({ params, request }) => {
        const body = (await request.json()) as Record<string, string>;
        if (params.step === 'claim' && body.claim_token !== 'right') return problem(403, 'CLAIM_TOKEN');
        if (params.step !== 'claim') tokens.push(request.headers.get('x-claim-token'));
        if (params.step === 'network' && body.vpn_range_ipv4 === '8.8.8.0/24') {
          return problem(422, 'INVALID', { violations: [{ field: 'vpn_range_ipv4', description: 'must be private' }] });
        }
        answered.push(String(params.step));
        return HttpResponse.json(status());
      }),
      http.post('/api/setup/complete', ({ request }) => {
        tokens.push(request.headers.get('x-claim-token'));
        complete = true;
        return HttpResponse.json(status());
      }),
      http.post('/api/auth/login', () => HttpResponse.json(ME)),
      get('/api/config', CONFIG),
    );
    open('/');
    await user.type(await screen.findByLabelText('Claim code'), 'wrong');
    await user.click(screen.getByRole('button', { name: 'Continue' }));
    expect(await screen.findByRole('alert')).toBeVisible();
    expect(screen.getByLabelText('Claim code')).toHaveAccessibleDescription(expect.stringContaining('CLAIM_TOKEN'));
    await user.clear(screen.getByLabelText('Claim code'));
    await user.type(screen.getByLabelText('Claim code'), ' right ');
    await user.click(screen.getByRole('button', { name: 'Continue' }));

    const name = await screen.findByLabelText('Name');
    await user.clear(name);
    await user.type(name, 'Nest');
    expect(screen.getByText('Devices will reach it as nest.cell')).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Continue' }));

    const range = await screen.findByLabelText('VPN range');
    await user.clear(range);
    await user.type(range, '8.8.8.0/24');
    await user.click(screen.getByRole('button', { name: 'Continue' }));
    await waitFor(() => expect(range).toHaveAccessibleDescription(expect.stringContaining('must be private')));
    expect(range).toBeInvalid();
    await user.clear(range);
    await user.type(range, '10.9.0.0/24');
    await user.click(screen.getByRole('button', { name: 'Continue' }));

    await user.type(await screen.findByLabelText('Password'), 'correct horse battery');
    await user.click(screen.getByRole('button', { name: 'Finish' }));
    expect(await screen.findByRole('heading', { name: 'Your cell is ready' })).toBeVisible();
    expect(await screen.findByLabelText('Name of the device')).toHaveFocus();
    expect(tokens).toEqual(['right', 'right', 'right', 'right', 'right']);
    expect(answered).toEqual(['claim', 'identity', 'network', 'admin']);
    expect(JSON.stringify({ ...localStorage, ...sessionStorage }) + window.location.href).not.toContain('right');
  });

  it('asks for the code again after a reload', async () => {
    server.use(
      http.get('/api/auth/me', () => problem(428, 'SETUP_REQUIRED')),
      get('/api/setup/status', { ...SETUP, claimed: true, answered_steps: ['claim', 'identity'] }),
    );
    open('/');
    expect(await screen.findByText(/claimed already/)).toBeVisible();
    expect(screen.getByLabelText('Claim code')).toHaveFocus();
  });
});

describe('signing in', () => {
  it('shows a wrong password, then the countdown of the lock, then lets try again', async () => {
    vi.useFakeTimers({ shouldAdvanceTime: true });
    const user = userEvent.setup({ advanceTimers: vi.advanceTimersByTime });
    let answer = () => problem(401, 'LOGIN', { detail: 'The user name or the password is wrong.' });
    server.use(
      http.get('/api/auth/me', () => problem(401, 'NO_SESSION')),
      http.post('/api/auth/login', () => answer()),
    );
    open('/settings');
    await user.type(await screen.findByLabelText('User name'), 'ana');
    await user.type(screen.getByLabelText('Password'), 'guess');
    await user.click(screen.getByRole('button', { name: 'Sign in' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('password is wrong');
    answer = () => problem(429, 'LOCKED', {}, { 'retry-after': '65' });
    await user.click(screen.getByRole('button', { name: 'Sign in' }));
    expect(await screen.findByText(/You can try again in 1:0\d/)).toBeVisible();
    expect(screen.getByRole('button', { name: /Try again in/ })).toBeDisabled();
    await act(() => vi.advanceTimersByTimeAsync(66_000));
    expect(screen.getByRole('button', { name: 'Sign in' })).toBeEnabled();
    expect(screen.getByText(/Ask an administrator/)).toBeInTheDocument();
    vi.useRealTimers();
  });

  it('says so when the cell cannot be reached, and offers to try again', async () => {
    server.use(http.get('/api/auth/me', () => HttpResponse.error()));
    open('/');
    expect(await screen.findByRole('alert')).toHaveTextContent('does not answer');
    server.use(http.get('/api/auth/me', () => problem(401, 'NO_SESSION')));
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }));
    expect(await screen.findByLabelText('Password')).toBeVisible();
  });

  it('asks for a new password when somebody else chose the present one', async () => {
    server.use(get('/api/auth/me', { ...ME, must_change_password: true }));
    open('/');
    expect(await screen.findByLabelText('Current password')).toBeVisible();
  });
});

describe('devices', () => {
  it('shows a skeleton, not an empty list, while loading', async () => {
    signedIn([]);
    server.use(
      http.get('/api/peers', async () => {
        await delay('infinite');
        return HttpResponse.json({ peers: [] });
      }),
    );
    open('/devices');
    expect(await screen.findByRole('heading', { name: 'Devices' })).toBeVisible();
    expect(screen.getByLabelText('Loading…')).toHaveAttribute('aria-busy', 'true');
    expect(screen.queryByText('No devices yet')).not.toBeInTheDocument();
  });

  it('offers to add one when there are none', async () => {
    signedIn([]);
    open('/devices');
    expect(await screen.findByText('No devices yet')).toBeVisible();
    await userEvent.click(within(screen.getByRole('main')).getByRole('button', { name: 'Add device' }));
    expect(await screen.findByRole('dialog', { name: 'Add device' })).toBeVisible();
  });

  it('says what failed and tries again', async () => {
    signedIn([]);
    server.use(http.get('/api/peers', () => problem(500, 'INTERNAL')));
    open('/devices');
    expect(await screen.findByRole('alert')).toHaveTextContent('INTERNAL happened');
    expect(screen.getByRole('alert')).toHaveTextContent('r-1');
    server.use(get('/api/peers', { peers: [peer('ana')] }));
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }));
    expect((await screen.findAllByRole('link', { name: 'ana' })).length).toBeGreaterThan(0);
  });

  it('pages many, sorts by a column, filters by text, and keeps it all in the URL', async () => {
    const user = userEvent.setup();
    signedIn(Array.from({ length: 120 }, (_, i) => seen(`d${i}`, i, { ipv4: `10.86.0.${i + 2}` })));
    open('/devices');
    const table = await screen.findByRole('table');
    expect(within(table).getAllByRole('row')).toHaveLength(51);
    expect(screen.getByText('Page 1 of 3')).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Next' }));
    expect(window.location.search).toBe('?page=2');
    await user.click(within(table).getByRole('button', { name: 'Address' }));
    await user.click(within(table).getByRole('button', { name: 'Address' }));
    expect(window.location.search).toBe('?sort=address&dir=desc');
    expect(within(table).getByRole('columnheader', { name: 'Address' })).toHaveAttribute('aria-sort', 'descending');
    expect(within(table).getAllByRole('rowheader')[0]).toHaveTextContent('d119');
    await user.type(screen.getByRole('searchbox'), 'd11');
    expect(screen.getByText('11 of 120')).toBeVisible();
    expect(window.location.search).toBe('?q=d11&sort=address&dir=desc');
    await user.type(screen.getByRole('searchbox'), 'zzz');
    await user.click(await screen.findByRole('button', { name: 'Clear filter' }));
    expect(window.location.search).toBe('?sort=address&dir=desc');
  });

  it('finds one device among ten thousand, and draws a page of them alone', async () => {
    const user = userEvent.setup();
    const address = (i: number) => `10.86.${Math.floor(i / 250)}.${(i % 250) + 2}`;
    signedIn(Array.from({ length: 10_000 }, (_, i) => seen(`d${i}`, i, { ipv4: address(i) })));
    open('/devices');
    const table = await screen.findByRole('table');
    expect(within(table).getAllByRole('row')).toHaveLength(51);
    expect(screen.getByText('10,000 in all')).toBeVisible();
    await user.click(screen.getByRole('searchbox'));
    await user.paste('d9876');
    expect(await screen.findByText('1 of 10,000')).toBeVisible();
    expect(within(table).getAllByRole('rowheader')).toHaveLength(1);
  });

  it('shows unknown, not off, while the network service does not answer', async () => {
    signedIn([peer('ana', { activity: null })]);
    open('/devices');
    const table = await screen.findByRole('table');
    expect(within(table).getByText('Unknown')).toBeVisible();
    expect(within(table).getByText('unknown')).toBeVisible();
  });

  it('tells that it is not live, keeps the values, and fetches again when it is', async () => {
    signedIn([seen('ana', 5)]);
    open('/devices');
    const table = await screen.findByRole('table');
    act(() => void FakeStream.last.dispatchEvent(new Event('open')));
    act(() => void FakeStream.last.dispatchEvent(new Event('error')));
    expect(FakeStream.last.closed).toBe(true);
    await waitFor(() => expect(FakeStream.all).toHaveLength(2), { timeout: 3000 });
    expect(await screen.findByText(/^Not live since \d\d:\d\d/, undefined, { timeout: 3000 })).toBeVisible();
    expect(within(table).getByText('Connected')).toBeInTheDocument();
    server.use(get('/api/peers', { peers: [seen('ana', 5), seen('ben', 9)] }));
    act(() => void FakeStream.last.dispatchEvent(new Event('open')));
    expect(await within(table).findByText('ben')).toBeInTheDocument();
    expect(screen.queryByText(/Not live/)).not.toBeInTheDocument();
    server.use(get('/api/peers', { peers: [] }));
    // The greeting, then the change.
    act(() => void FakeStream.last.dispatchEvent(new Event('peers')));
    act(() => void FakeStream.last.dispatchEvent(new Event('peers')));
    expect(await screen.findByText('No devices yet')).toBeVisible();
  });
});

describe('the navigation', () => {
  const active = (...names: string[]) => ({
    services: names.map((name) => ({ name, title: name, url: `https://${name}.home.cell/` })),
  });

  it('follows what is installed: by the stream, and by the window’s event', async () => {
    signedIn([]);
    server.use(get('/api/services/active', active('files')));
    open('/devices');
    expect(await screen.findByRole('link', { name: /^files/ })).toHaveAttribute('href', 'https://files.home.cell/');
    server.use(get('/api/services/active', active('files', 'mail')));
    act(() => void FakeStream.last.dispatchEvent(new Event('open')));
    act(() => void FakeStream.last.dispatchEvent(new Event('services')));
    act(() => void FakeStream.last.dispatchEvent(new Event('services')));
    expect(await screen.findByRole('link', { name: /^mail/ })).toBeVisible();
    server.use(get('/api/services/active', active()));
    act(() => void window.dispatchEvent(new Event('pic-services-changed')));
    await waitFor(() => expect(screen.queryByRole('link', { name: /^mail/ })).not.toBeInTheDocument());
  });

  it('shows services to people who are no administrators, and no pages of theirs', async () => {
    server.use(
      get('/api/auth/me', { ...ME, role: 'user' }),
      get('/api/peer/me', peer('ana')),
      get('/api/services/active', active('files')),
    );
    open('/');
    expect(await screen.findByRole('link', { name: /^files/ })).toBeVisible();
    expect(screen.queryByRole('link', { name: 'Services' })).not.toBeInTheDocument();
  });

  it('has the rest of its entries behind one more button', async () => {
    const user = userEvent.setup();
    signedIn([]);
    open('/devices');
    await user.click(await screen.findByRole('button', { name: 'More' }));
    const dialog = screen.getByRole('dialog', { name: 'More' });
    await user.click(within(dialog).getByRole('link', { name: 'Activity' }));
    expect(screen.queryByRole('dialog')).not.toBeInTheDocument();
    expect(window.location.pathname).toBe('/activity');
  });
});

describe('adding a device', () => {
  it('sends the public half alone and shows the rest until it is closed', async () => {
    const user = userEvent.setup();
    signedIn([peer('ana')]);
    const bodies: string[] = [];
    const text = '[Interface]\nPrivateKey = \nAddress = 10.86.0.3/32\n';
    server.use(
      http.post('/api/peers', async ({ request }) => {
        const body = await request.text();
        bodies.push(body);
        const { name, public_key } = JSON.parse(body);
        if (name === 'ana') {
          return problem(409, 'PEER_EXISTS', { violations: [{ field: 'name', description: 'is taken' }] });
        }
        const answer = { peer: peer(name, { public_key }), config: text, generation: 4, observed_generation: 4 };
        return HttpResponse.json(answer, { status: 201 });
      }),
    );
    open('/settings');
    server.use(
      get('/api/wireguard/status', {
        interface: 'wg0',
        backend: null,
        public_key: null,
        listen_port: 1,
        converged: true,
        peers: null,
      }),
    );
    await user.click(await screen.findByRole('button', { name: 'Add device' }));
    const name = await screen.findByLabelText('Name of the device');
    await user.type(name, 'ana');
    await user.click(screen.getByRole('button', { name: 'Create' }));
    await waitFor(() => expect(name).toHaveAccessibleDescription(expect.stringContaining('is taken')));
    await user.clear(name);
    await user.type(name, 'ben');
    await user.click(screen.getByRole('button', { name: 'Create' }));
    expect(await screen.findByRole('img', { name: /configuration of ben/ })).toBeInTheDocument();
    const config = screen.getByLabelText<HTMLTextAreaElement>('Configuration').value;
    const privateKey = /^PrivateKey = ([A-Za-z0-9+/]{43}=)$/m.exec(config)?.[1];
    expect(privateKey).toBeDefined();
    expect(bodies.join()).not.toContain(privateKey);
    expect(JSON.parse(bodies[1] ?? '')).toEqual({
      name: 'ben',
      access: { internet: true, peer_to_peer: false, services: [] },
      public_key: expect.stringMatching(/^[A-Za-z0-9+/]{43}=$/),
    });
    expect(JSON.stringify({ ...localStorage, ...sessionStorage }) + window.location.href).not.toContain(privateKey);
    await user.click(screen.getByRole('button', { name: 'Done' }));
    expect(document.body.innerHTML).not.toContain(privateKey);
  });

  it('asks where the cell is before it makes a code, when nobody has said so', async () => {
    const user = userEvent.setup();
    signedIn([]);
    const calls: string[] = [];
    server.use(
      get('/api/config', { ...CONFIG, endpoint_host: null }),
      http.put('/api/config', async ({ request }) => {
        calls.push(`config ${await request.text()}`);
        return HttpResponse.json({ ...CONFIG, endpoint_host: 'nest.example' });
      }),
      http.post('/api/peers', () => {
        calls.push('peer');
        return problem(507, 'ADDRESSES_EXHAUSTED');
      }),
    );
    open('/devices');
    await screen.findByText('No devices yet');
    await user.click(screen.getAllByRole('button', { name: 'Add device' })[0] as HTMLElement);
    await user.type(await screen.findByLabelText('Name of the device'), 'ana');
    await user.type(screen.getByLabelText('Public name or address'), 'nest.example');
    await user.click(screen.getByRole('button', { name: 'Create' }));
    expect(await screen.findByText('ADDRESSES_EXHAUSTED happened')).toBeVisible();
    expect(calls).toEqual(['config {"endpoint_host":"nest.example"}', 'peer']);
    expect(screen.queryByTestId('qr')).not.toBeInTheDocument();
  });
});

describe('a session that ends', () => {
  const signedOut = () => problem(401, 'NO_SESSION');

  it('says so, shows nothing more, and goes on where it was', async () => {
    const user = userEvent.setup();
    signedIn([seen('ana', 5)]);
    open('/devices?q=an');
    await screen.findByRole('table');
    server.use(http.get('/api/auth/me', signedOut), http.get('/api/peers', signedOut));
    act(() => void FakeStream.last.dispatchEvent(new Event('error')));
    expect(await screen.findByText(/Your session has ended/)).toBeVisible();
    expect(document.body.textContent).not.toContain('ana');
    expect(window.location.pathname + window.location.search).toBe('/devices?q=an');
    signedIn([seen('ana', 5)]);
    server.use(http.post('/api/auth/login', () => HttpResponse.json(ME)));
    await user.type(screen.getByLabelText('User name'), 'admin');
    await user.type(screen.getByLabelText('Password'), 'a good password');
    await user.click(screen.getByRole('button', { name: 'Sign in' }));
    expect(await screen.findByText('1 in all')).toBeVisible();
    expect(screen.getByRole('searchbox')).toHaveValue('an');
  });

  it('is none that was ended by signing out', async () => {
    const user = userEvent.setup();
    signedIn([]);
    open('/devices');
    server.use(http.post('/api/auth/logout', () => new HttpResponse(null, { status: 204 })));
    await user.click(await screen.findByRole('button', { name: 'Sign out' }));
    expect(await screen.findByLabelText('User name')).toBeVisible();
    expect(screen.queryByText(/has ended/)).not.toBeInTheDocument();
  });
});

describe('activity', () => {
  const record = (sequence: number) => ({
    ...{ sequence, time: '2026-11-20T10:00:00Z', actor: 'anna', role: 'admin', remote: '127.0.0.1', detail: '' },
    ...{ action: 'peer.create', subject: `device-${sequence}`, previous_hash: '', hash: '' },
  });

  it('reads the end of the log, and checks the whole of it when asked alone', async () => {
    const user = userEvent.setup();
    signedIn([]);
    const asked: string[] = [];
    let length = 120;
    server.use(
      http.get('/api/audit', ({ request }) => {
        const query = new URL(request.url).searchParams;
        asked.push(query.toString());
        const from = Number(query.get('from') ?? length);
        const records = Array.from({ length: Math.min(from, Number(query.get('limit'))) }, (_, i) => record(from - i));
        return HttpResponse.json({ records, next: null });
      }),
      http.get('/api/audit/verify', () => {
        asked.push('verify');
        return HttpResponse.json({ ...VERDICT, record_count: length });
      }),
    );
    open('/activity');
    expect(await screen.findByText('Records 71–120 of 120')).toBeVisible();
    act(() => void FakeStream.last.dispatchEvent(new Event('audit')));
    length = 121;
    act(() => void FakeStream.last.dispatchEvent(new Event('audit')));
    expect(await screen.findByText('Records 72–121 of 121')).toBeVisible();
    expect(screen.getByText('device-121', { exact: false })).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Older' }));
    expect(await screen.findByText('Records 22–71 of 121')).toBeVisible();
    await user.click(screen.getByRole('button', { name: 'Newer' }));
    expect(asked).not.toContain('verify');
    await user.click(screen.getByRole('button', { name: 'Check the log' }));
    expect(await screen.findByText('The log is intact')).toBeVisible();
    expect(asked.filter((what) => what === 'verify')).toHaveLength(1);
  });
});

describe('home', () => {
  it('says that all is well and links the count to the list it counts', async () => {
    signedIn([seen('ana', 5), peer('ben')]);
    open('/');
    expect(await screen.findByText('All is well')).toBeVisible();
    const count = await screen.findByRole('link', { name: /^Devices on now: ?1 ?of 2/ });
    expect(count).toHaveAttribute('href', '/devices?state=on');
  });

  it('names what is wrong and does not claim a count that nobody knows', async () => {
    signedIn([peer('ana', { activity: null })]);
    const daemons = [{ name: 'netd', reachable: false, conditions: [] }];
    server.use(get('/api/status', { ...STATUS, daemons, connected_peer_count: null }));
    open('/');
    expect(await screen.findByText('1 thing needs you')).toBeVisible();
    expect(screen.getByText('Network: does not answer')).toBeVisible();
    expect(screen.getByText(/not known which devices are on/)).toBeVisible();
  });
});
