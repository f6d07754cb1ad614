/** Catalogs of others, the settings' check before they are saved, and the log of DNS, against a stand-in for the cell. */

import { screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { describe, expect, it } from 'vitest';
import type { RemoteCatalog } from '../api/types';
import { QueryLog } from '../components/QueryLog';
import { ServiceConfig } from '../components/ServiceConfig';
import { stateOfCatalog } from '../lib/services';
import { field, get, offer, problem, service, show } from '../test/cell';
import { server } from '../test/setup';
import Store from './Store';
import StoreItem from './StoreItem';

const URL = 'https://catalog.example.org/cell/';

function remote(change: Partial<RemoteCatalog> = {}): RemoteCatalog {
  return {
    ...{ name: 'more', url: URL, keys: ['k'], ca: null, connection_id: null, connection_name: null },
    ...{ serial: 7, issued_at: null, expires_at: null, expired: false, services: 2, refreshed_at: null },
    ...{ error: null, refreshing: false, fetched: 0, to_fetch: 0, next_at: null },
    ...change,
  };
}

function cell(catalogs: RemoteCatalog[], services = [offer('wiki', { origin: 'more', deployable: true })]) {
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    get('/api/services', { services: [] }),
    get('/api/store/catalog', { services, faults: [] }),
    get('/api/store/catalogs', { catalogs }),
    get('/api/connectivity/connections', { connections: [] }),
    get('/api/containers', { docker: { reachable: true, reason: '' }, containers: [] }),
    get('/api/peers', { peers: [] }),
  );
}

describe('catalogs of others', () => {
  it('say how they are, in the order of what matters', () => {
    expect(stateOfCatalog(remote()).text).toBe('2 services');
    expect(stateOfCatalog(remote({ serial: null }))).toEqual({ bad: false, text: 'Not fetched yet.' });
    expect(stateOfCatalog(remote({ expired: true })).bad).toBe(true);
    const failed = remote({ expired: true, error: 'nobody answers' });
    expect(stateOfCatalog(failed)).toEqual({ bad: true, text: 'The last look failed: nobody answers' });
    const fetching = { ...failed, refreshing: true, fetched: 1, to_fetch: 3 };
    expect(stateOfCatalog(fetching)).toEqual({ bad: false, text: 'Is being fetched: 1 of 3' });
  });

  it('are added with their keys, and a fault is at its field', async () => {
    cell([]);
    const sent: unknown[] = [];
    server.use(
      http.post('/api/store/catalogs', async ({ request }) => {
        const body = (await request.json()) as { url: string };
        sent.push(body);
        if (sent.length === 1) {
          const violations = [{ field: 'keys', description: 'are 1 to 8 public keys in PEM' }];
          return problem(400, 'INVALID_REQUEST', { violations });
        }
        return HttpResponse.json(remote(), { status: 201 });
      }),
    );
    show(<Store />, '/store');
    const user = userEvent.setup();
    await user.click((await screen.findAllByText('Add a catalog'))[0] as HTMLElement);
    await user.type(screen.getByLabelText('Name'), 'more');
    await user.type(screen.getByLabelText('Address'), URL);
    const keys = screen.getByLabelText('Public keys');
    await user.type(keys, 'k');
    await user.click(screen.getByRole('button', { name: 'Add a catalog' }));
    await waitFor(() => expect(keys).toHaveAccessibleDescription(expect.stringContaining('are 1 to 8')));
    await user.click(screen.getByRole('button', { name: 'Add a catalog' }));
    await waitFor(() => expect(keys).toHaveValue(''));
    expect(sent[1]).toEqual({ name: 'more', url: URL, keys: ['k'], ca: null, connection_id: null });
  });

  it('are looked at again, and removed after a question', async () => {
    cell([remote({ error: 'nobody answers', connection_name: 'vpn' })]);
    const done: string[] = [];
    server.use(
      http.post('/api/store/catalogs/more/refresh', () => {
        done.push('refresh');
        return HttpResponse.json(remote());
      }),
      http.delete('/api/store/catalogs/more', () => {
        done.push('remove');
        return new HttpResponse(null, { status: 204 });
      }),
    );
    show(<Store />, '/store');
    const row = await screen.findByRole('listitem', { name: 'more' });
    expect(within(row).getByText('The last look failed: nobody answers')).toBeTruthy();
    expect(within(row).getByText('Through vpn, and no other way')).toBeTruthy();
    const user = userEvent.setup();
    await user.click(screen.getByRole('button', { name: 'Look now: more' }));
    await waitFor(() => expect(done).toEqual(['refresh']));
    await user.click(screen.getByRole('button', { name: 'Remove: more' }));
    await user.click(await screen.findByRole('button', { name: 'Remove' }));
    await waitFor(() => expect(done).toEqual(['refresh', 'remove']));
  });

  it('say of a service what the broker would refuse, and what to do, instead of a form', async () => {
    const fix = 'have manifest_keys = ["-----BEGIN PUBLIC KEY-----"]';
    cell([remote()], [offer('wiki', { origin: 'more', deployable: false, deployable_fix: fix })]);
    show(<Store />, '/store');
    await screen.findByText('The broker would refuse it');
    expect(screen.getByText('From the catalog more')).toBeTruthy();
    show(<StoreItem id="wiki" />);
    await screen.findByText(fix);
    expect(screen.queryByRole('button', { name: 'Install' })).toBeNull();
  });
});

describe('settings of a service', () => {
  it('are checked by the cell before they are saved', async () => {
    const asked: unknown[] = [];
    server.use(
      get('/api/auth/csrf-token', { csrf_token: 'x' }),
      http.post('/api/services/files/config/validate', async ({ request }) => {
        const body = (await request.json()) as { parameters: Record<string, string> };
        asked.push(body.parameters.word);
        if (body.parameters.word !== 'no') return HttpResponse.json({ valid: true });
        return problem(400, 'INVALID_REQUEST', { violations: [{ field: 'parameters.word', description: 'is no' }] });
      }),
    );
    const form = [field('word', { label: 'Word' })];
    show(<ServiceConfig service={service('files', { form, parameters: { word: 'one' } })} />);
    const user = userEvent.setup();
    const word = screen.getByLabelText('Word');
    expect(asked).toEqual([]);
    await user.clear(word);
    await user.type(word, 'no');
    await waitFor(() => expect(word).toHaveAccessibleDescription(expect.stringContaining('is no')));
    await user.type(word, 'te');
    await waitFor(() => expect(asked.at(-1)).toBe('note'));
    await waitFor(() => expect(word).not.toHaveAccessibleDescription(expect.stringContaining('is no')));
  });
});

describe('the log of DNS', () => {
  it('is switched at once, and stays when that is refused', async () => {
    const sent: unknown[] = [];
    server.use(
      get('/api/auth/csrf-token', { csrf_token: 'x' }),
      get('/api/dns/query-log', { level: 'errors' }),
      http.put('/api/dns/query-log', async ({ request }) => {
        const body = (await request.json()) as { level: string };
        sent.push(body.level);
        return body.level === 'off' ? problem(500, 'STORAGE', { detail: 'it is full' }) : HttpResponse.json(body);
      }),
    );
    show(<QueryLog />);
    const user = userEvent.setup();
    expect(await screen.findByRole('radio', { name: 'Errors' })).toBeChecked();
    await user.click(screen.getByRole('radio', { name: 'Every question' }));
    await waitFor(() => expect(screen.getByRole('radio', { name: 'Every question' })).toBeChecked());
    await user.click(screen.getByRole('radio', { name: 'Nothing' }));
    await screen.findByText(/it is full/i);
    expect(screen.getByRole('radio', { name: 'Every question' })).toBeChecked();
    expect(sent).toEqual(['questions', 'off']);
  });
});
