/** The page of one service, the grid of access, and alerts, against a stand-in for the cell. */

import { act, screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Account, Alert, Service as Installed, ServiceNetwork } from '../api/types';
import { AlertBell } from '../components/Alerts';
import { DeviceServices } from '../components/DeviceServices';
import { connection, field, get, onlyAsks, peer, problem, service, show } from '../test/cell';
import { server } from '../test/setup';
import AccessMatrix from './AccessMatrix';
import Service from './Service';

/** The browser's EventSource, opened and broken by hand. */
class FakeStream extends EventTarget {
  static readonly CLOSED = 2;
  static last: FakeStream | undefined;
  readyState = 0;
  constructor(readonly url: string) {
    super();
    FakeStream.last = this;
  }
  close() {
    this.readyState = 2;
  }
  say(name: string, data?: string) {
    this.dispatchEvent(data === undefined ? new Event(name) : new MessageEvent(name, { data }));
  }
  refuse() {
    this.readyState = 2;
    this.say('error');
  }
}

beforeEach(() => {
  FakeStream.last = undefined;
  vi.stubGlobal('EventSource', FakeStream);
});
afterEach(() => vi.unstubAllGlobals());

const NETWORK: ServiceNetwork = {
  service: 'files',
  bridge: 'cellsvc1',
  subnet: '172.21.0.0/28',
  egress: 'none',
  connection_id: null,
  connection_name: null,
  fail_open: null,
  fallback_connection_ids: [],
  fallback_connection_names: [],
  way: 'nowhere',
  has_way_out: true,
  exit_types: ['wireguard_ext', 'tor'],
  reach: [],
};

function cell(one: Installed, accounts: Account[] = []) {
  const state = { service: one, accounts };
  const containers = [
    { name: 'webdav', address: '172.21.0.2', state: 'running', health: 'healthy', started_at: null, restart_count: 0 },
    { name: 'accounts', address: '172.21.0.3', state: 'exited', health: null, started_at: null, restart_count: 3 },
  ];
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    get('/api/peers', { peers: [peer('phone'), peer('tv')] }),
    get('/api/containers', { docker: { reachable: true, reason: '' }, containers: [] }),
    get('/api/connectivity/services', { services: [NETWORK] }),
    get('/api/connectivity/connections', { connections: [connection('vpn')] }),
    http.get('/api/services', () =>
      HttpResponse.json({ services: [state.service, service('mail', { has_accounts: true })] }),
    ),
    http.get('/api/services/files', () => HttpResponse.json(state.service)),
    http.get('/api/services/files/status', () =>
      HttpResponse.json({ service: state.service, containers, fault: null }),
    ),
    http.get('/api/services/files/accounts', () => HttpResponse.json({ accounts: state.accounts })),
    get('/api/services/files/health/history', { entries: [] }),
    get('/api/services/files/secrets', { secrets: [] }),
    http.post('/api/services/files/config/validate', () => HttpResponse.json({ valid: true })),
    get('/api/services/files/logs', { container: 'webdav', lines: ['read once'], truncated: false }),
  );
  return state;
}

const FILES = service('files', { has_accounts: true });

describe('the page of a service', () => {
  it('says what runs, and what is unknown to the cell', async () => {
    cell(FILES);
    show(<Service name="files" />);
    await screen.findByRole('heading', { name: 'Files', level: 1 });
    expect(await screen.findByText('running, healthy')).toBeTruthy();
    expect(screen.getByText(/started again 3 times/)).toBeTruthy();
    expect(screen.getByText('files.home.cell')).toBeTruthy();
    server.use(http.get('/api/services/gone', () => problem(404, 'NO_SERVICE')));
    show(<Service name="gone" />);
    await screen.findByText('There is no service of this name');
  });

  it('shows an installation step by step, and nothing that is not there yet', async () => {
    cell(service('files', { phase: 'installing', step: 'images', has_accounts: true }));
    show(<Service name="files" />);
    const steps = await screen.findByRole('list', { name: 'Progress' });
    const current = within(steps)
      .getAllByRole('listitem')
      .filter((one) => one.getAttribute('aria-current') === 'step');
    expect(current.map((one) => one.textContent)).toEqual(['Download of its programsunder way']);
    expect(screen.getByText('Accounts can be made once the service runs.')).toBeTruthy();
    expect(screen.queryByRole('heading', { name: 'Log' })).toBeNull();
    expect(FakeStream.last).toBeUndefined();
  });

  it('gives and takes access by switches, in order, and shows a refusal', async () => {
    const state = cell(FILES);
    const sent: unknown[] = [];
    server.use(
      http.put('/api/services/files/access', async ({ request }) => {
        const body = (await request.json()) as { everyone: boolean; allowed_peers: string[] };
        sent.push(body);
        if (body.allowed_peers.includes('tv')) return problem(400, 'INVALID_REQUEST', { detail: 'tv has too many' });
        state.service = { ...state.service, ...body };
        return HttpResponse.json(state.service);
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('switch', { name: 'phone' }));
    await waitFor(() => expect(sent).toEqual([{ everyone: false, allowed_peers: ['phone'] }]));
    expect(screen.getByRole('switch', { name: 'phone' })).toBeChecked();
    await user.click(screen.getByRole('switch', { name: 'tv' }));
    expect(await screen.findByText('tv has too many')).toBeTruthy();
    expect(screen.getByRole('switch', { name: 'tv' })).not.toBeChecked();
    await user.click(screen.getByRole('switch', { name: 'Every device' }));
    await screen.findByText('All devices may use Files.');
    await waitFor(() => expect(sent.at(-1)).toEqual({ everyone: true, allowed_peers: [] }));
  });

  it('saves settings as a whole, with faults at their fields', async () => {
    const form = [
      field('title', { label: 'Title', pattern: 'printable', default: 'Home' }),
      field('word', { label: 'Word' }),
    ];
    const state = cell(service('files', { form, parameters: { word: 'one' } }));
    const sent: unknown[] = [];
    server.use(
      http.put('/api/services/files/config', async ({ request }) => {
        const body = (await request.json()) as { parameters: Record<string, string> };
        sent.push(body);
        if (body.parameters.word === 'no') {
          return problem(400, 'INVALID_REQUEST', { violations: [{ field: 'parameters.word', description: 'is no' }] });
        }
        state.service = service('files', { form, ...body, phase: 'updating', step: 'manifest' });
        return HttpResponse.json(state.service, { status: 202 });
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    const word = await screen.findByLabelText('Word');
    expect(screen.getByRole('button', { name: 'Save and restart' })).toBeDisabled();
    await user.clear(word);
    await user.type(word, 'no');
    await user.click(screen.getByRole('button', { name: 'Save and restart' }));
    await waitFor(() => expect(word).toHaveAccessibleDescription(expect.stringContaining('is no')));
    await user.clear(word);
    await user.type(word, 'two');
    await user.click(screen.getByRole('button', { name: 'Save and restart' }));
    await screen.findByText('Wait until what is under way is done.');
    expect(sent).toEqual([{ parameters: { word: 'no' } }, { parameters: { word: 'two' } }]);
  });

  it('asks before the service gets another way to the internet', async () => {
    cell(FILES);
    const sent: unknown[] = [];
    server.use(
      http.put('/api/connectivity/services/files/exit', async ({ request }) => {
        if (onlyAsks(request)) return HttpResponse.json({ network: NETWORK, plan: ['Files goes out by vpn.'] });
        sent.push(await request.json());
        return HttpResponse.json({ network: NETWORK, plan: [] });
      }),
    );
    show(<Service name="files" />);
    const way = await screen.findByLabelText('Goes out through');
    await screen.findByRole('option', { name: 'vpn' });
    await userEvent.selectOptions(way, 'vpn');
    await screen.findByText('Files goes out by vpn.');
    expect(sent).toEqual([]);
    await userEvent.click(screen.getByRole('button', { name: 'Make the change' }));
    const body = { connection_id: connection('vpn').id, fail_open: null, fallback_connection_ids: [] };
    await waitFor(() => expect(sent).toEqual([body]));
  });

  it('offers exits that its manifest allows alone, and none where there is no way out', async () => {
    cell(FILES);
    const exits = [connection('vpn'), connection('onion', { type: 'tor' }), connection('work', { type: 'proxy' })];
    server.use(get('/api/connectivity/connections', { connections: exits }));
    const first = show(<Service name="files" />);
    await screen.findByRole('option', { name: 'onion' });
    expect(screen.queryByRole('option', { name: 'work' })).toBeNull();
    first.unmount();
    const closed = { ...NETWORK, has_way_out: false, exit_types: [] };
    server.use(get('/api/connectivity/services', { services: [closed] }));
    const second = show(<Service name="files" />);
    await screen.findByText(/can be given none/);
    expect(screen.queryByLabelText('Goes out through')).toBeNull();
    second.unmount();
    // What was bound before can be taken away, and nothing else.
    const stale: ServiceNetwork = { ...closed, egress: 'exit', connection_id: connection('vpn').id };
    server.use(get('/api/connectivity/services', { services: [stale] }));
    show(<Service name="files" />);
    await screen.findByRole('option', { name: 'vpn' });
    const names = within(screen.getByLabelText('Goes out through')).getAllByRole('option');
    expect(names.map((one) => one.textContent)).toEqual(['Nowhere', 'vpn']);
  });

  it('gives it stand-ins, and takes the change back unless it is kept', async () => {
    cell(FILES);
    const bound: ServiceNetwork = { ...NETWORK, egress: 'exit', way: 'exit', connection_id: connection('vpn').id };
    const exits = [connection('vpn'), connection('onion', { type: 'tor' }), connection('work', { type: 'proxy' })];
    const sent: unknown[] = [];
    server.use(
      get('/api/connectivity/services', { services: [bound] }),
      get('/api/connectivity/connections', { connections: exits }),
      http.put('/api/connectivity/services/files/exit', async ({ request }) => {
        if (onlyAsks(request)) return HttpResponse.json({ network: bound, plan: ['Else through onion.'] });
        sent.push([new URL(request.url).search, await request.json()]);
        return HttpResponse.json({ network: bound, plan: [] });
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    const add = await screen.findByLabelText('Add a stand-in');
    expect(within(add).queryByRole('option', { name: 'work' })).toBeNull();
    await user.selectOptions(add, 'onion');
    await screen.findByText('Else through onion.');
    await user.click(screen.getByRole('switch', { name: 'Take it back unless I keep it' }));
    await user.click(screen.getByRole('button', { name: 'Make the change' }));
    const onion = connection('onion').id;
    const body = { connection_id: bound.connection_id, fail_open: null, fallback_connection_ids: [onion] };
    await waitFor(() => expect(sent).toEqual([['?confirm_within=60', body]]));
  });

  it('says what happens while its exit does not work', async () => {
    cell(FILES);
    const bound: ServiceNetwork = { ...NETWORK, egress: 'exit', way: 'exit', connection_id: connection('vpn').id };
    const sent: unknown[] = [];
    server.use(
      get('/api/connectivity/services', { services: [bound] }),
      http.put('/api/connectivity/services/files/exit', async ({ request }) => {
        if (!onlyAsks(request)) sent.push(await request.json());
        return HttpResponse.json({ network: bound, plan: [] });
      }),
    );
    show(<Service name="files" />);
    await userEvent.selectOptions(await screen.findByLabelText('While that does not work'), 'no');
    const body = { connection_id: bound.connection_id, fail_open: false, fallback_connection_ids: [] };
    await waitFor(() => expect(sent).toEqual([body]));
  });

  it('grants single places with faults at their fields, and asks before it takes one', async () => {
    cell(FILES);
    const disk = { address: '192.168.1.20', protocol: 'tcp', port: 445 };
    const state = { network: NETWORK };
    const sent: unknown[] = [];
    server.use(
      http.get('/api/connectivity/services', () => HttpResponse.json({ services: [state.network] })),
      http.put('/api/connectivity/services/files/reach', async ({ request }) => {
        const body = (await request.json()) as { reach: ServiceNetwork['reach'] };
        const bad = body.reach.findIndex((one) => one.address === '10.86.0.2');
        if (bad >= 0) {
          const violation = { field: `reach[${bad}].address`, description: 'must not be in the VPN' };
          return problem(400, 'INVALID_REQUEST', { violations: [violation] });
        }
        const network = { ...NETWORK, ...body };
        if (onlyAsks(request)) return HttpResponse.json({ network, plan: ['Files loses the disk.'] });
        sent.push(body.reach);
        state.network = network;
        return HttpResponse.json({ network, plan: [] });
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    const address = await screen.findByLabelText('Address');
    await user.type(address, '10.86.0.2');
    await user.type(screen.getByLabelText('Port'), '445');
    await user.click(screen.getByRole('button', { name: 'Add a place' }));
    await waitFor(() => expect(address).toHaveAccessibleDescription(expect.stringContaining('must not be in the VPN')));
    await user.clear(address);
    await user.type(address, disk.address);
    await user.click(screen.getByRole('button', { name: 'Add a place' }));
    const list = await screen.findByRole('list', { name: 'May reach besides' });
    expect(within(list).getByText('192.168.1.20 TCP 445')).toBeVisible();
    await waitFor(() => expect(address).toHaveValue(''));
    await user.click(within(list).getByRole('button', { name: 'Remove: 192.168.1.20 TCP 445' }));
    await screen.findByText('Files loses the disk.');
    expect(sent).toEqual([[disk]]);
    await user.click(screen.getByRole('button', { name: 'Make the change' }));
    await waitFor(() => expect(sent).toEqual([[disk], []]));
    await waitFor(() => expect(screen.queryByRole('list', { name: 'May reach besides' })).toBeNull());
  });

  it('sets, replaces and removes secrets, and never shows one', async () => {
    cell(FILES);
    const secrets = [
      { name: 'token', label: 'Token', help: '', optional: false, generated: false, can_be_set: true, is_set: false },
      { name: 'own', label: 'Own key', help: '', optional: false, generated: true, can_be_set: false, is_set: true },
    ];
    const sent: unknown[] = [];
    const set = (is_set: boolean) => {
      secrets[0] = { ...secrets[0], is_set } as (typeof secrets)[0];
    };
    server.use(
      http.get('/api/services/files/secrets', () => HttpResponse.json({ secrets })),
      http.put('/api/services/files/secrets/token', async ({ request }) => {
        const body = (await request.json()) as { value: string };
        if (body.value === 'short') {
          return problem(400, 'INVALID_REQUEST', { violations: [{ field: 'value', description: 'is too short' }] });
        }
        sent.push(body);
        set(true);
        return HttpResponse.json(FILES);
      }),
      http.delete('/api/services/files/secrets/token', () => {
        sent.push('removed');
        set(false);
        return HttpResponse.json(FILES);
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    await screen.findByText('Not set: the service does not start without it.');
    expect(screen.queryByRole('button', { name: 'Replace: Own key' })).toBeNull();
    await user.click(screen.getByRole('button', { name: 'Set: Token' }));
    const dialog = screen.getByRole('dialog', { name: 'Set: Token' });
    const value = within(dialog).getByLabelText('Token');
    await user.type(value, 'short');
    await user.click(within(dialog).getByRole('button', { name: 'Save and restart' }));
    await waitFor(() => expect(value).toHaveAccessibleDescription(expect.stringContaining('is too short')));
    await user.type(value, '-and-long');
    await user.click(within(dialog).getByRole('button', { name: 'Save and restart' }));
    await user.click(await screen.findByRole('button', { name: 'Remove: Token' }));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Remove' }));
    await screen.findByRole('button', { name: 'Set: Token' });
    expect(sent).toEqual([{ value: 'short-and-long' }, 'removed']);
    expect(document.body.innerHTML).not.toContain('short-and-long');
  });
});

describe('accounts', () => {
  const ACCOUNT: Account = { user: 'ana', peer: 'phone', created_at: '2026-11-20T10:00:00Z' };

  it('are made for a device in several services at once, and shown once', async () => {
    const state = cell(FILES);
    const sent: unknown[] = [];
    server.use(
      http.post('/api/accounts', async ({ request }) => {
        sent.push(await request.json());
        if (sent.length === 1) {
          return problem(400, 'INVALID_REQUEST', { violations: [{ field: 'user', description: 'is taken' }] });
        }
        state.accounts = [ACCOUNT];
        const credentials = ['files', 'mail'].map((one) => ({
          service: one,
          user: 'ana',
          password: `secret-of-${one}`,
          where: [`https://${one}.home.cell/ana/`],
        }));
        return HttpResponse.json({ credentials }, { status: 201 });
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    await screen.findByText('No accounts yet');
    await user.click(screen.getByRole('button', { name: 'Add account' }));
    const dialog = screen.getByRole('dialog', { name: 'Add an account of Files' });
    await user.type(within(dialog).getByLabelText('For the device'), 'phone');
    await user.type(within(dialog).getByLabelText('User name'), 'ana');
    await user.click(await within(dialog).findByLabelText('Mail'));
    await user.click(within(dialog).getByRole('button', { name: 'Make the account' }));
    await waitFor(() =>
      expect(within(dialog).getByLabelText('User name')).toHaveAccessibleDescription(
        expect.stringContaining('is taken'),
      ),
    );
    await user.click(within(dialog).getByRole('button', { name: 'Make the account' }));
    const files = await screen.findByRole('region', { name: 'files' });
    expect(within(files).getByLabelText('Password')).toHaveValue('secret-of-files');
    expect(within(files).getByDisplayValue('https://files.home.cell/ana/')).toBeTruthy();
    expect(within(files).getByRole('button', { name: 'Copy the password' })).toBeTruthy();
    expect(sent[1]).toEqual({ peer: 'phone', user: 'ana', services: ['files', 'mail'] });
    await user.click(screen.getByRole('button', { name: 'Done' }));
    await screen.findByText('for phone · since Nov 20, 2026');
    expect(document.body.innerHTML).not.toContain('secret-of');
    expect(JSON.stringify({ ...localStorage, ...sessionStorage })).not.toContain('secret-of');
  });

  it('get a new password after a question, and are removed with their data', async () => {
    const state = cell(FILES, [ACCOUNT, { user: 'old', peer: null, created_at: '2026-11-20T10:00:00Z' }]);
    const done: string[] = [];
    server.use(
      http.post('/api/services/files/accounts/ana/password', () => {
        done.push('reset');
        return HttpResponse.json({
          service: 'files',
          user: 'ana',
          password: 'the-new-one',
          where: ['https://files.home.cell/'],
        });
      }),
      http.delete('/api/services/files/accounts/old', ({ request }) => {
        if (onlyAsks(request)) return HttpResponse.json({ plan: ['The folder of old goes.'] });
        done.push('remove');
        state.accounts = [ACCOUNT];
        return new HttpResponse(null, { status: 204 });
      }),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    await screen.findByText(/its device is gone/);
    await user.click(screen.getByRole('button', { name: 'New password: ana' }));
    expect(done).toEqual([]);
    await user.click(screen.getByRole('button', { name: 'Make a new password' }));
    expect(await screen.findByLabelText('Password')).toHaveValue('the-new-one');
    await user.click(screen.getByRole('button', { name: 'Done' }));
    await user.click(screen.getByRole('button', { name: 'Remove: old' }));
    expect(screen.getByText(/Everything that old keeps in Files is deleted with it, for good/)).toBeTruthy();
    expect(await screen.findByText('The folder of old goes.')).toBeTruthy();
    expect(done).toEqual(['reset']);
    await user.click(screen.getByRole('button', { name: 'Remove the account and its data' }));
    await waitFor(() => expect(screen.queryByText(/its device is gone/)).toBeNull());
    expect(done).toEqual(['reset', 'remove']);
  });
});

describe('the log', () => {
  const open = async () => {
    cell(FILES);
    show(<Service name="files" />);
    const log = await screen.findByRole('region', { name: 'Log of webdav' });
    return { log, stream: FakeStream.last as FakeStream };
  };

  it('follows, pauses, filters, and changes the container', async () => {
    const user = userEvent.setup();
    const { log, stream } = await open();
    expect(stream.url).toBe('/api/services/files/logs?follow=true&lines=200&container=webdav');
    act(() => {
      stream.say('open');
      stream.say('message', '{"lines":["GET /a"],"skipped":false}');
      stream.say('message', '{"lines":["PUT /b"],"skipped":false}');
    });
    await within(log).findByText('GET /a');
    expect(screen.getByText(/^Live · 2 lines/)).toBeTruthy();
    await user.click(screen.getByRole('button', { name: 'Pause' }));
    act(() => stream.say('message', '{"lines":["GET /c"],"skipped":false}'));
    await screen.findByText(/^Paused, 1 new line/);
    expect(within(log).queryByText('GET /c')).toBeNull();
    await user.click(screen.getByRole('button', { name: 'Go on' }));
    await within(log).findByText('GET /c');
    await user.type(screen.getByLabelText('Filter'), 'put');
    await waitFor(() => expect(within(log).queryByText('GET /a')).toBeNull());
    expect(within(log).getByText('PUT /b')).toBeTruthy();
    await user.selectOptions(screen.getByLabelText('Container'), 'accounts');
    expect(FakeStream.last?.url).toContain('container=accounts');
    expect(stream.readyState).toBe(FakeStream.CLOSED);
  });

  it('is read anew where it cannot be followed', async () => {
    const { log, stream } = await open();
    act(() => stream.refuse());
    await within(log).findByText('read once');
    expect(screen.getByText(/^Not live: read anew every few seconds/)).toBeTruthy();
  });
});

describe('a backup', () => {
  it('is downloaded by the browser, and a refusal is read here', async () => {
    cell(FILES);
    let could = false;
    const path = '/api/services/files/backup';
    const refusal = { detail: 'the broker knows nobody whom backups are for (NO_RECIPIENT)' };
    server.use(
      http.get(path, ({ request }) => {
        expect(new URL(request.url).searchParams.get('validate_only')).toBe('true');
        return could ? new HttpResponse(null, { status: 204 }) : problem(409, 'BROKER_REFUSES', refusal);
      }),
    );
    const clicked: string[] = [];
    const click = vi.spyOn(HTMLAnchorElement.prototype, 'click').mockImplementation(function (this: HTMLAnchorElement) {
      clicked.push(new URL(this.href).pathname);
    });
    show(<Service name="files" />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Download a backup' }));
    expect(await screen.findByText(/nobody whom backups are for/)).toBeTruthy();
    expect(clicked).toEqual([]);
    could = true;
    await user.click(screen.getByRole('button', { name: 'Download a backup' }));
    await waitFor(() => expect(clicked).toEqual([path]));
    click.mockRestore();
  });
});

describe('health', () => {
  it('is told newest first, and tested on demand', async () => {
    cell(FILES);
    const entries = Array.from({ length: 14 }, (_, i) => ({
      at: `2026-11-${String(i + 10)}T10:00:00Z`,
      state: i === 13 ? 'unhealthy' : 'healthy',
      detail: `change ${i}`,
    }));
    const checks = [
      { name: 'containers', ok: true, detail: '', ms: 3 },
      { name: 'name', ok: false, detail: 'nobody answers', ms: 1500 },
    ];
    server.use(
      get('/api/services/files/health/history', { entries }),
      http.post('/api/services/files/test', () => HttpResponse.json({ checks })),
    );
    show(<Service name="files" />);
    const user = userEvent.setup();
    const list = await screen.findByRole('list', { name: 'What changed, newest first' });
    expect(within(list).getAllByRole('listitem')).toHaveLength(10);
    expect(within(list).getAllByRole('listitem')[0]).toHaveTextContent('Not well');
    await user.click(screen.getByRole('button', { name: 'Show 4 more' }));
    expect(within(list).getAllByRole('listitem')).toHaveLength(14);
    await user.click(screen.getByRole('button', { name: 'Test now' }));
    expect(await screen.findByText('1 check fails.')).toBeTruthy();
    expect(screen.getByText('nobody answers')).toBeTruthy();
    expect(screen.getByText('1,500 ms')).toBeTruthy();
  });
});

describe('the page of a device', () => {
  it('gives and takes services; what every device may use is said, and not switched here', async () => {
    const files = service('files');
    const sent: unknown[] = [];
    server.use(
      get('/api/auth/csrf-token', { csrf_token: 'x' }),
      get('/api/services', {
        services: [files, service('wiki', { everyone: true }), service('caddy', { purpose: 'core' })],
      }),
      http.put('/api/services/files/access', async ({ request }) => {
        const body = (await request.json()) as { everyone: boolean; allowed_peers: string[] };
        sent.push(body.allowed_peers);
        return HttpResponse.json({ ...files, ...body });
      }),
    );
    show(<DeviceServices device="phone" />);
    const list = await screen.findByRole('list', { name: 'Services' });
    expect(within(list).getAllByRole('switch')).toHaveLength(2);
    expect(within(list).getByRole('switch', { name: 'Wiki' })).toBeDisabled();
    expect(within(list).getByRole('switch', { name: 'Wiki' })).toBeChecked();
    await userEvent.click(within(list).getByRole('switch', { name: 'Files' }));
    await waitFor(() => expect(sent).toEqual([['phone']]));
    expect(within(list).getByRole('switch', { name: 'Files' })).toBeChecked();
    await userEvent.click(within(list).getByRole('switch', { name: 'Files' }));
    await waitFor(() => expect(sent).toEqual([['phone'], []]));
  });
});

describe('who may use what', () => {
  const grid = (devices: number, services: Installed[]) =>
    server.use(
      get('/api/auth/csrf-token', { csrf_token: 'x' }),
      get('/api/services', { services }),
      get('/api/peers', { peers: Array.from({ length: devices }, (_, i) => peer(`d${i}`)) }),
    );

  it('is one stop of the tab key, moved through by arrows and switched by the space bar', async () => {
    grid(3, [service('files', { allowed_peers: ['d1'] }), service('wiki', { everyone: true })]);
    const sent: unknown[] = [];
    server.use(
      http.put('/api/services/:name/access', async ({ params, request }) => {
        const body = (await request.json()) as { everyone: boolean; allowed_peers: string[] };
        sent.push([params.name, body.allowed_peers]);
        return HttpResponse.json(service(String(params.name), body));
      }),
    );
    show(<AccessMatrix />, '/access');
    const user = userEvent.setup();
    const table = await screen.findByRole('grid', { name: 'Devices and services' });
    expect(
      within(table)
        .getAllByRole('checkbox')
        .filter((one) => one.tabIndex === 0),
    ).toHaveLength(1);
    expect(within(table).getByRole('checkbox', { name: 'd1 may use Files' })).toBeChecked();
    expect(within(table).getByRole('checkbox', { name: 'd2 may use Wiki, as every device' })).toBeChecked();
    act(() => within(table).getByRole('checkbox', { name: 'Every device may use Files' }).focus());
    await user.keyboard('{ArrowDown}');
    expect(within(table).getByRole('checkbox', { name: 'd0 may use Files' })).toHaveFocus();
    await user.keyboard(' ');
    await waitFor(() => expect(sent).toEqual([['files', ['d0', 'd1']]]));
    expect(within(table).getByRole('checkbox', { name: 'd0 may use Files' })).toBeChecked();
    // What follows from the row of all devices is not switched by itself.
    await user.keyboard('{ArrowRight} ');
    expect(within(table).getByRole('checkbox', { name: 'd0 may use Wiki, as every device' })).toHaveFocus();
    expect(within(table).getByRole('checkbox', { name: 'd0 may use Wiki, as every device' })).toBeChecked();
    expect(sent).toHaveLength(1);
  });

  it('shows a page of many devices, and finds one', async () => {
    grid(
      120,
      Array.from({ length: 20 }, (_, i) => service(`s${i}`)),
    );
    show(<AccessMatrix />, '/access');
    const user = userEvent.setup();
    const table = await screen.findByRole('grid');
    expect(within(table).getAllByRole('row')).toHaveLength(52);
    expect(screen.getByText('Devices 1–50 of 120')).toBeTruthy();
    await user.click(screen.getByRole('button', { name: 'Next' }));
    expect(screen.getByText('Devices 51–100 of 120')).toBeTruthy();
    await user.type(screen.getByLabelText('Find a device'), 'd119');
    await waitFor(() => expect(within(table).getAllByRole('row')).toHaveLength(3));
  });

  it('names the service whose change was refused', async () => {
    grid(1, [service('files')]);
    server.use(
      http.put('/api/services/files/access', () => problem(409, 'SERVICE_NOT_NOW', { detail: 'it is removed' })),
    );
    show(<AccessMatrix />, '/access');
    await userEvent.click(await screen.findByRole('checkbox', { name: 'd0 may use Files' }));
    expect(await screen.findByRole('alert')).toHaveTextContent('Files: it is removed');
    expect(screen.getByRole('checkbox', { name: 'd0 may use Files' })).not.toBeChecked();
  });

  it('leads to the store while there is nothing to give', async () => {
    grid(1, [service('caddy', { purpose: 'core' })]);
    show(<AccessMatrix />, '/access');
    await screen.findByText('No services yet');
  });
});

describe('alerts', () => {
  const alert = (id: string, change: Partial<Alert> = {}): Alert => ({
    ...{ id, service: 'files', since: new Date().toISOString(), severity: 'critical', text: `${id} broke` },
    acknowledged: false,
    ...change,
  });

  it('are counted at the bell, shown newest first, and acknowledged', async () => {
    let alerts = [alert('old', { acknowledged: true }), alert('new'), alert('hint', { severity: 'warning' })];
    server.use(
      get('/api/auth/csrf-token', { csrf_token: 'x' }),
      http.get('/api/alerts', () => HttpResponse.json({ alerts })),
      http.post('/api/alerts/:id/acknowledge', ({ params }) => {
        alerts = alerts.map((one) => (one.id === params.id ? { ...one, acknowledged: true } : one));
        return new HttpResponse(null, { status: 204 });
      }),
    );
    show(<AlertBell />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Alerts: 2' }));
    const list = screen.getByRole('list', { name: 'Alerts' });
    expect(within(list).getAllByRole('listitem').at(-1)).toHaveTextContent('old broke');
    await user.click(within(list).getByRole('button', { name: 'Acknowledge: new broke' }));
    await waitFor(() => expect(within(list).queryByRole('button', { name: 'Acknowledge: new broke' })).toBeNull());
    await user.click(within(list).getByRole('button', { name: 'Acknowledge: hint broke' }));
    expect(await screen.findByRole('button', { name: 'Alerts: none' })).toBeTruthy();
  });
});
