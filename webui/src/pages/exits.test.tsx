/** The pages of exits against a stand-in for the cell. */

import { useQuery } from '@tanstack/react-query';
import { screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { expect, test } from 'vitest';
import { peerQuery } from '../api/queries';
import type { Connection, Peer } from '../api/types';
import { DeviceExit } from '../components/DeviceExit';
import { connection, get, onlyAsks, peer, plan, problem, show } from '../test/cell';
import { server } from '../test/setup';
import Exits from './Exits';

const ALL = '/api/connectivity/connections';

function cell(connections: Connection[], peers: Peer[]) {
  server.use(get('/api/auth/csrf-token', { csrf_token: 'x' }), get(ALL, { connections }), get('/api/peers', { peers }));
}

test('an exit is shown with its health in words and with who uses it', async () => {
  const vpn = connection('vpn', {
    status: {
      health: 'working',
      timestamp: new Date().toISOString(),
      proven_at: new Date(Date.now() - 120_000).toISOString(),
      detail: 'its server answers',
    },
  });
  cell(
    [
      vpn,
      connection('old', {
        type: 'cell_relay',
        status: { health: 'down', timestamp: null, proven_at: null, detail: 'nothing carries it' },
      }),
    ],
    [peer('phone', { exit_connection_id: vpn.id }), peer('tv')],
  );
  show(<Exits />);
  const list = await screen.findByRole('list', { name: 'All exits' });
  const [first, second] = within(list).getAllByRole('listitem');
  expect(within(first as HTMLElement).getByText('Works')).toBeTruthy();
  expect(within(first as HTMLElement).getByText('Last proven 2 min ago')).toBeTruthy();
  await within(first as HTMLElement).findByText('Used by phone');
  expect(within(second as HTMLElement).getByText('Does not work')).toBeTruthy();
  expect(within(second as HTMLElement).getByText('nothing carries it')).toBeTruthy();
  const tv = await screen.findByRole('listitem', { name: 'tv' });
  const offered = within(within(tv).getByLabelText('Goes out through')).getAllByRole('option');
  expect(offered.map((option) => option.textContent)).toEqual(['The cell’s own line', 'vpn']);
});

test('an exit is added from pasted text, and a fault is told at its field', async () => {
  cell([], []);
  const sent: unknown[] = [];
  server.use(
    http.post(ALL, async ({ request }) => {
      sent.push(await request.json());
      if (sent.length === 1) {
        const violations = [
          { field: 'import.file', description: 'has no server' },
          { field: 'import.file line 2 (PostUp)', description: 'would run a program' },
        ];
        return problem(400, 'INVALID_REQUEST', { violations });
      }
      return HttpResponse.json({ connection: connection('vpn'), notes: ['Table is not used'] }, { status: 201 });
    }),
  );
  show(<Exits />);
  const user = userEvent.setup();
  await user.click(await screen.findByRole('button', { name: 'Add exit' }));
  await user.type(screen.getByLabelText('Name'), 'vpn');
  await user.click(screen.getByLabelText('Configuration file'));
  await user.paste('[Interface]');
  await user.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText('has no server; line 2 (PostUp): would run a program');
  expect(screen.getByLabelText('Configuration file').getAttribute('aria-invalid')).toBe('true');
  await user.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText('Table is not used');
  expect(sent).toEqual(Array(2).fill({ name: 'vpn', type: 'wireguard_ext', import: { file: '[Interface]' } }));
  expect(screen.queryByRole('dialog')).toBeNull();
});

test('an exit in use is not deleted, and who uses it is said', async () => {
  const vpn = connection('vpn');
  cell([vpn], [peer('phone', { exit_connection_id: vpn.id })]);
  const detail = 'devices use this connection: bind them to another first: phone';
  server.use(http.delete(`${ALL}/:id`, () => problem(409, 'CONNECTION_IN_USE', { detail })));
  show(<Exits />);
  const user = userEvent.setup();
  await user.click(await screen.findByRole('button', { name: 'Delete: vpn' }));
  await user.click(screen.getByRole('button', { name: 'Delete' }));
  await screen.findByText(detail);
});

function Phone() {
  const phone = useQuery(peerQuery('phone'));
  return phone.data ? <DeviceExit peer={phone.data} /> : null;
}

test('a device is bound after what that cuts was read, and let out directly only after a question', async () => {
  const vpn = connection('vpn');
  const spare = connection('spare');
  let phone = peer('phone');
  cell([vpn, spare], [phone]);
  const sent: unknown[] = [];
  const put = (what: string, change: (body: never) => Partial<Peer>) =>
    http.put(`/api/connectivity/peers/phone/${what}`, async ({ request }) => {
      const body = (await request.json()) as never;
      if (onlyAsks(request)) return HttpResponse.json(what === 'exit' ? plan('ends', 'It is cut.') : plan('nothing'));
      sent.push(body);
      phone = { ...phone, ...change(body) };
      return HttpResponse.json(phone);
    });
  server.use(
    http.get('/api/peers/phone', () => HttpResponse.json(phone)),
    put('exit', (body: { connection_id: string | null }) => ({ exit_connection_id: body.connection_id })),
    put('failopen', (body: { fail_open: boolean | null }) => ({ fail_open: body.fail_open })),
    put('fallbacks', (body: { connection_ids: string[] }) => ({ fallback_connection_ids: body.connection_ids })),
  );
  show(<Phone />);
  const user = userEvent.setup();
  await user.selectOptions(await screen.findByLabelText('Goes out through'), 'vpn');
  await screen.findByText('It is cut.');
  expect(sent).toEqual([]);
  await user.click(screen.getByRole('button', { name: 'Make the change' }));
  await screen.findByText(/Nothing of this device reaches the internet/);
  await user.selectOptions(screen.getByLabelText('While that does not work'), 'Goes out directly');
  await screen.findByText(/under your own address, and nobody is asked/);
  expect(sent).toEqual([{ connection_id: vpn.id }]);
  await user.click(screen.getByRole('button', { name: 'Let it out' }));
  await waitFor(() => expect(sent).toContainEqual({ fail_open: true }));
  await screen.findByText(/everybody sees this device under your own address/);
  await user.selectOptions(screen.getByLabelText('Add a stand-in'), 'spare');
  await user.click(await screen.findByRole('button', { name: 'Remove stand-in spare' }));
  await waitFor(() => expect(sent.slice(2)).toEqual([{ connection_ids: [spare.id] }, { connection_ids: [] }]));
});

test('a device shows which way it has now', async () => {
  const vpn = connection('vpn');
  const spare = connection('spare');
  const phone = peer('phone', {
    exit_connection_id: vpn.id,
    fallback_connection_ids: [spare.id],
    way: 'exit',
    way_connection_id: spare.id,
  });
  cell([vpn, spare], [phone]);
  server.use(http.get('/api/peers/phone', () => HttpResponse.json(phone)));
  show(<Phone />);
  await screen.findByText('Goes through spare now, which stands in.');
});

test('what replaces an exit is read before it is made', async () => {
  const vpn = connection('vpn');
  cell([vpn], []);
  const sent: unknown[] = [];
  const told = { ...plan('secrets', 'The vault forgets the secrets of vpn.'), services: [], notes: [] };
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.put(`/api/connectivity/connections/${vpn.id}`, async ({ request }) => {
      if (onlyAsks(request)) return HttpResponse.json(told);
      sent.push(await request.json());
      return HttpResponse.json({ connection: vpn, notes: [] });
    }),
  );
  show(<Exits />);
  const user = userEvent.setup();
  await user.click(await screen.findByRole('button', { name: 'Replace: vpn' }));
  const dialog = await screen.findByRole('dialog');
  await user.type(within(dialog).getByLabelText('Configuration file'), 'text');
  await user.click(within(dialog).getByRole('button', { name: 'Save' }));
  await within(dialog).findByText('The vault forgets the secrets of vpn.');
  expect(sent).toEqual([]);
  await user.click(within(dialog).getByRole('button', { name: 'Make the change' }));
  await waitFor(() => expect(sent).toEqual([{ import: { file: 'text' } }]));
});
