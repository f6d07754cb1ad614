/** A change that waits, against a stand-in for the cell. */

import { useQueryClient } from '@tanstack/react-query';
import { screen, waitFor } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { expect, test } from 'vitest';
import { sessionQuery, setSession } from '../api/queries';
import type { WaitingChange as Change } from '../api/types';
import { get, ME, onlyAsks, peer, plan, problem, show } from '../test/cell';
import { server } from '../test/setup';
import { DeviceAccess } from './DeviceAccess';
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

function From({ device, of }: { device: string | null; of: string }) {
  const queries = useQueryClient();
  if (!queries.getQueryData(sessionQuery.queryKey)) setSession(queries, { kind: 'signed-in', me: { ...ME, device } });
  return <DeviceAccess peer={peer(of)} />;
}

test.each([
  ['laptop', 'laptop', '60'],
  ['laptop', 'phone', null],
  [null, 'phone', null],
])('who sits at %s and changes %s asks to wait: %s', async (device, of, within) => {
  const asked: (string | null)[] = [];
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    http.put(`/api/peers/${of}`, ({ request }) => {
      if (onlyAsks(request)) return HttpResponse.json(plan('loses', 'The device loses the internet.'));
      asked.push(new URL(request.url).searchParams.get('confirm_within'));
      return HttpResponse.json(peer(of, { access: { internet: false, peer_to_peer: false, services: [] } }));
    }),
  );
  show(<From device={device} of={of} />);
  await userEvent.click(screen.getByRole('switch', { name: 'Internet' }));
  await userEvent.click(screen.getByRole('button', { name: 'Save' }));
  await screen.findByText('The device loses the internet.');
  expect(asked).toEqual([]);
  await userEvent.click(screen.getByRole('button', { name: 'Make the change' }));
  await waitFor(() => expect(asked).toEqual([within]));
  await waitFor(() => expect(screen.queryByRole('dialog')).toBeNull());
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
