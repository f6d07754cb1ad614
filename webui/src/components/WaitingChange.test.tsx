/** A change that waits, against a stand-in for the cell. */

import { screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { expect, test } from 'vitest';
import type { WaitingChange as Change } from '../api/types';
import { get, onlyAsks, peer, plan, problem, show } from '../test/cell';
import { server } from '../test/setup';
import { DeviceAccess } from './DeviceAccess';
import { DeviceDanger } from './DeviceDanger';
import { WaitingChange } from './WaitingChange';

const CHANGE: Change = {
  peer: 'laptop',
  service: null,
  action: 'update',
  author: 'admin',
  deadline: '2026-11-20T10:01:00Z',
  seconds_left: 60,
  confirm_by_vpn: false,
};

/** A cell with a change that waits until it is settled; what it was asked for. */
function cell(settles = true): string[] {
  const asked: string[] = [];
  let waiting: Change | null = CHANGE;
  const settle = (how: string) =>
    http.post(`/api/network/${how}`, () => {
      asked.push(how);
      if (!settles) return problem(403, 'CONFIRM_PATH');
      waiting = null;
      return new HttpResponse(null, { status: 204 });
    });
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.get('/api/network/pending', () => HttpResponse.json({ waiting, last_rollback_at: null })),
    settle('confirm'),
    settle('rollback'),
  );
  return asked;
}

test.each([
  ['Keep', 'confirm'],
  ['Undo', 'rollback'],
])('%s settles the change, and the question goes', async (button, asks) => {
  const asked = cell();
  show(<WaitingChange />);
  await screen.findByText('Keep the change of laptop?');
  await screen.findByText(/undone by itself in (60|59) s/);
  await userEvent.click(screen.getByRole('button', { name: button }));
  await waitFor(() => expect(screen.queryByText('Keep the change of laptop?')).toBeNull());
  expect(asked).toEqual([asks]);
});

test('what the cell has against it is shown, and the question stays', async () => {
  cell(false);
  show(<WaitingChange />);
  await userEvent.click(await screen.findByRole('button', { name: 'Keep' }));
  await screen.findByText('CONFIRM_PATH happened');
  expect(screen.getByText('Keep the change of laptop?')).toBeTruthy();
});

test.each([
  ['touched', '60'],
  ['cut', '60'],
  ['stays', null],
] as const)('what the cell says of the way here decides: %s waits %s', async (own_path, within) => {
  const of = 'laptop';
  const asked: (string | null)[] = [];
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.put(`/api/peers/${of}`, ({ request }) => {
      if (onlyAsks(request)) {
        const told = plan('loses', 'The device loses the internet.');
        return HttpResponse.json({ ...told, own_path, confirm_advised: own_path !== 'stays' });
      }
      asked.push(new URL(request.url).searchParams.get('confirm_within'));
      return HttpResponse.json(peer(of, { access: { internet: false, peer_to_peer: false, services: [] } }));
    }),
  );
  show(<DeviceAccess peer={peer(of)} />);
  await userEvent.click(screen.getByRole('switch', { name: 'Internet' }));
  await userEvent.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText('The device loses the internet.');
  expect(asked).toEqual([]);
  await userEvent.click(screen.getByRole('button', { name: 'Make the change' }));
  await waitFor(() => expect(asked).toEqual([within]));
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
});

test.each([
  ['cut', '300', ['config', 'key']],
  ['stays', null, ['key', 'config']],
] as const)('a new key: %s waits %s, and its configuration comes in time', async (own_path, within, order) => {
  const sent: string[] = [];
  let waits: string | null = '';
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.put('/api/peers/laptop', ({ request }) => {
      const told = plan('new_key', 'laptop gets a new key.');
      if (onlyAsks(request)) return HttpResponse.json({ ...told, own_path, confirm_advised: own_path === 'cut' });
      sent.push('key');
      waits = new URL(request.url).searchParams.get('confirm_within');
      return HttpResponse.json(peer('laptop'));
    }),
    http.post('/api/peers/laptop/config', () => {
      sent.push('config');
      return HttpResponse.json({ config: '[Interface]\nPrivateKey = \n' });
    }),
  );
  show(<DeviceDanger peer={peer('laptop')} />);
  await userEvent.click(screen.getByRole('button', { name: 'New key' }));
  await userEvent.click(screen.getByRole('button', { name: 'Make new key' }));
  await screen.findByText('laptop gets a new key.');
  expect(sent).toEqual([]);
  await userEvent.click(screen.getByRole('button', { name: 'Make the change' }));
  await screen.findByLabelText('Configuration');
  expect(sent).toEqual(order);
  expect(waits).toBe(within);
  expect(screen.queryByText(/^You are on this device/) !== null).toBe(own_path === 'cut');
});

test('what only gives is made at once, and what is not wanted is not made', async () => {
  const made: unknown[] = [];
  let asks = plan('gains', 'The device gains the internet.');
  const off = { internet: false, peer_to_peer: false, services: [] };
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.put('/api/peers/phone', async ({ request }) => {
      if (onlyAsks(request)) return HttpResponse.json(asks);
      made.push(await request.json());
      return HttpResponse.json(peer('phone'));
    }),
  );
  show(<DeviceAccess peer={peer('phone', { access: off })} />);
  await userEvent.click(screen.getByRole('switch', { name: 'Internet' }));
  await userEvent.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText('Saved and handed to the network.');
  expect(made).toHaveLength(1);
  asks = { ...plan('gains', 'The device gains a service.'), netd: { takes: false, says: ['not there'] } };
  await userEvent.click(screen.getByRole('switch', { name: 'Other devices' }));
  await userEvent.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText(/would refuse it: not there/);
  await userEvent.click(screen.getByRole('button', { name: 'Cancel' }));
  await waitFor(() => expect(screen.queryByText('The device gains a service.')).toBeNull());
  expect(made).toHaveLength(1);
});
