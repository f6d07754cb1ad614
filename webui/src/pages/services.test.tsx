/** The pages of services and of the store against a stand-in for the cell. */

import { screen, waitFor, within } from '@testing-library/react';
import userEvent from '@testing-library/user-event';
import { HttpResponse, http } from 'msw';
import { describe, expect, it } from 'vitest';
import type { CatalogService, Docker, Service } from '../api/types';
import { CONFIG, connection, field, get, offer, onlyAsks, peer, problem, service, show } from '../test/cell';
import { server } from '../test/setup';
import Services from './Services';
import Store from './Store';
import StoreItem from './StoreItem';

const DOCKER: Docker = { reachable: true, reason: '' };

function cell(installed: Service[], catalog: CatalogService[] = [], docker = DOCKER) {
  server.use(
    get('/api/auth/csrf-token', { csrf_token: 'x' }),
    get('/api/services', { services: installed }),
    get('/api/store/catalog', { services: catalog, faults: [] }),
    get('/api/store/catalogs', { catalogs: [] }),
    get('/api/connectivity/connections', { connections: [] }),
    get('/api/containers', { docker, containers: [] }),
    get('/api/peers', { peers: [peer('phone'), peer('tv')] }),
    get('/api/config', CONFIG),
  );
}

describe('installed services', () => {
  it('are shown with state, address, users and the way to them', async () => {
    cell([service('calendar', { allowed_peers: ['phone'] }), service('caddy', { purpose: 'core', published: false })]);
    server.use(
      get('/api/services/active', {
        services: [{ name: 'calendar', title: 'Calendar', url: 'https://calendar.home.cell/' }],
      }),
    );
    show(<Services />);
    const row = await screen.findByRole('listitem', { name: 'Calendar' });
    expect(within(row).getByText('Runs')).toBeTruthy();
    expect(within(row).getByText('Version 1.0 · calendar.home.cell · 1 device')).toBeTruthy();
    const open = await within(row).findByRole('link', { name: /Open Calendar/ });
    expect(open).toHaveAttribute('href', 'https://calendar.home.cell/');
    const own = screen.getByRole('list', { name: 'The cell’s own' });
    expect(within(own).queryByRole('button', { name: /Remove/ })).toBeNull();
    expect(within(own).getByRole('button', { name: 'Restart: Caddy' })).toBeTruthy();
  });

  it('lead to the store while there are none', async () => {
    cell([]);
    show(<Services />);
    await screen.findByText('No services yet');
    expect(screen.getByRole('link', { name: 'Open the store' })).toHaveAttribute('href', '/store');
  });

  it('show how far an image is, and what a step waits for', async () => {
    const progress = { image: 'example/calendar', status: 'Downloading', current_bytes: 1_500_000, total_bytes: 6e6 };
    cell([
      service('calendar', { phase: 'installing', step: 'images', progress }),
      service('files', { phase: 'installing', step: 'deploy', waiting: { code: 'DOCKER_SLOW', message: 'too slow' } }),
      service('mail', {
        phase: 'failed',
        step: 'installing',
        error: { code: 'DENIED', message: 'the ceiling says no' },
      }),
    ]);
    show(<Services />);
    const calendar = await screen.findByRole('listitem', { name: 'Calendar' });
    expect(within(calendar).getByText('Step 3 of 5: Download of its programs')).toBeTruthy();
    expect(within(calendar).getByText('1.5 MB of 6 MB')).toBeTruthy();
    expect(within(calendar).getByRole('progressbar')).toHaveAttribute('value', '1500000');
    expect(screen.getByText('Waits: too slow')).toBeTruthy();
    const mail = screen.getByRole('listitem', { name: 'Mail' });
    expect(within(mail).getByText('It could not be installed.')).toBeTruthy();
    expect(within(mail).getByText('the ceiling says no')).toBeTruthy();
    expect(within(mail).getByRole('button', { name: 'Try again: Mail' })).toBeTruthy();
  });

  it.each([
    ['NO_SOCKET', 'This machine has no Docker, or it is not started.'],
    ['SOMETHING_NEW', 'This machine has no Docker, or its ceiling allows none.'],
  ])('say why nothing runs here (%s), and how to change that', async (reason, words) => {
    cell([], [], { reachable: false, reason });
    show(<Services />);
    const note = await screen.findByRole('region', { name: 'Services cannot run here yet' });
    expect(within(note).getByText(words)).toBeTruthy();
    expect(within(note).getByText(/apt install docker.io/)).toBeTruthy();
  });

  it('say so where the ceiling is what holds them', async () => {
    cell([service('files', { phase: 'installing', step: 'manifest', waiting: { code: 'NO_CEILING', message: 'x' } })]);
    show(<Services />);
    const note = await screen.findByRole('region', { name: 'Services cannot run here yet' });
    expect(within(note).getByText('This machine’s ceiling allows no containers.')).toBeTruthy();
  });

  it('tell what failed, and try again', async () => {
    cell([]);
    server.use(http.get('/api/services', () => problem(500, 'STORAGE')));
    show(<Services />);
    expect(await screen.findByRole('alert')).toHaveTextContent('STORAGE happened');
    cell([service('files')]);
    await userEvent.click(screen.getByRole('button', { name: 'Try again' }));
    await screen.findByRole('listitem', { name: 'Files' });
  });
});

describe('what is done with a service', () => {
  it('is asked about first, and said in words', async () => {
    cell([service('files', { update: { version: '2.0', digest: 'x' } }), service('wiki', { stopped: true })]);
    const done: string[] = [];
    server.use(
      http.post('/api/services/:name/:verb', ({ params }) => {
        done.push(`${params.verb} ${params.name}`);
        return HttpResponse.json(service(String(params.name)));
      }),
    );
    show(<Services />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Stop: Files' }));
    const dialog = screen.getByRole('dialog', { name: 'Stop Files?' });
    expect(within(dialog).getByText(/Its data stays/)).toBeTruthy();
    await user.click(within(dialog).getByRole('button', { name: 'Cancel' }));
    expect(done).toEqual([]);
    await user.click(screen.getByRole('button', { name: 'Restart: Files' }));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Restart' }));
    await waitFor(() => expect(done).toEqual(['restart files']));
    await user.click(screen.getByRole('button', { name: 'Update to 2.0: Files' }));
    await user.click(within(screen.getByRole('dialog')).getByRole('button', { name: 'Update' }));
    await waitFor(() => expect(done).toContain('update files'));
    await user.click(screen.getByRole('button', { name: 'Start: Wiki' }));
    await waitFor(() => expect(done).toEqual(['restart files', 'update files', 'start wiki']));
  });

  it('keeps its data on removal, unless its name is typed', async () => {
    cell([service('files')]);
    const sent: string[] = [];
    server.use(
      http.delete('/api/services/files', ({ request }) => {
        const erase = new URL(request.url).searchParams.get('delete_volumes') === 'true';
        if (onlyAsks(request)) {
          const plan = [erase ? 'All of its data is deleted, for good.' : 'Its data is kept in its volumes.'];
          return HttpResponse.json({ service: null, plan });
        }
        sent.push(erase ? 'with data' : 'keeps data');
        return HttpResponse.json({ service: service('files', { phase: 'removing', step: 'withdraw' }), plan: [] });
      }),
    );
    show(<Services />);
    const user = userEvent.setup();
    await user.click(await screen.findByRole('button', { name: 'Remove: Files' }));
    await screen.findByText('Its data is kept in its volumes.');
    await user.click(screen.getByLabelText('Delete its data for good'));
    await screen.findByText('All of its data is deleted, for good.');
    const remove = screen.getByRole('button', { name: 'Remove and delete the data' });
    expect(remove).toBeDisabled();
    await user.type(screen.getByLabelText('Type files to delete its data'), 'files');
    await user.click(remove);
    await waitFor(() => expect(sent).toEqual(['with data']));
    await user.click(screen.getByRole('button', { name: 'Remove: Files' }));
    await screen.findByText('Its data is kept in its volumes.');
    await user.click(screen.getByRole('button', { name: 'Remove, keep the data' }));
    await waitFor(() => expect(sent).toEqual(['with data', 'keeps data']));
  });

  it('is not done where others need the service', async () => {
    cell([service('email')]);
    server.use(
      http.delete('/api/services/email', () => problem(409, 'SERVICE_REQUIRED', { detail: 'webmail needs it' })),
    );
    show(<Services />);
    await userEvent.click(await screen.findByRole('button', { name: 'Remove: Email' }));
    await screen.findByText('webmail needs it');
    expect(screen.getByRole('button', { name: 'Remove, keep the data' })).toBeDisabled();
  });

  it('tries a failed installation again as it was asked for', async () => {
    const asked = { parameters: { a: 'b' }, allowed_peers: ['phone'] };
    cell([service('files', { phase: 'failed', step: 'installing', ...asked })]);
    const sent: unknown[] = [];
    server.use(
      http.post('/api/services/files/install', async ({ request }) => {
        sent.push(await request.json());
        return HttpResponse.json({ service: service('files', { phase: 'installing', step: 'network' }), plan: [] });
      }),
    );
    show(<Services />);
    await userEvent.click(await screen.findByRole('button', { name: 'Try again: Files' }));
    await waitFor(() => expect(sent).toEqual([{ ...asked, everyone: false }]));
  });
});

describe('the store', () => {
  it('is searched by words, which are in the address', async () => {
    cell(
      [],
      [
        offer('email', { requires: ['files'] }),
        offer('files', { installed: ['files'] }),
        offer('broken', { faults: ['x'] }),
      ],
    );
    show(<Store />, '/store');
    const list = await screen.findByRole('list', { name: 'Services of the store' });
    expect(within(list).getByText('Installed')).toBeTruthy();
    expect(within(list).getByText('Needs files')).toBeTruthy();
    expect(within(list).getByText('Cannot be installed')).toBeTruthy();
    await userEvent.type(screen.getByLabelText('Search'), 'about mail');
    expect(await screen.findByText('1 service')).toBeTruthy();
    expect(window.location.search).toBe('?q=about+mail');
    await userEvent.type(screen.getByLabelText('Search'), 'zzz');
    await userEvent.click(await screen.findByRole('button', { name: 'Clear the search' }));
    expect(await screen.findByText('3 services')).toBeTruthy();
  });

  it('shows no core services, and says where a catalog would be', async () => {
    cell([], [offer('caddy', { purpose: 'core' })]);
    show(<Store />, '/store');
    await screen.findByText('The store is empty');
    expect(screen.queryByText('Caddy')).toBeNull();
  });

  const FORM = [
    field('domain', { label: 'Domain', pattern: 'hostname' }),
    field('port', { label: 'Port', kind: 'integer', pattern: null, max_length: null, min: 1, max: 99, default: '80' }),
    field('open', { label: 'Open', kind: 'boolean', pattern: null, max_length: null, default: 'false' }),
    field('mode', { label: 'Mode', kind: 'enum', values: ['fast', 'safe'], default: 'safe' }),
  ];

  it('installs after its form is filled, its plan read, and faults mended at their fields', async () => {
    cell([], [offer('email', { form: FORM })]);
    const sent: unknown[] = [];
    server.use(
      http.post('/api/services/email/install', async ({ request }) => {
        const body = (await request.json()) as { parameters: Record<string, string> };
        if (body.parameters.domain === 'bad.domain') {
          return problem(400, 'INVALID_REQUEST', {
            violations: [{ field: 'parameters.domain', description: 'is not a name' }],
          });
        }
        if (onlyAsks(request))
          return HttpResponse.json({ service: null, plan: ['Email is installed.', 'It gets a network.'] });
        sent.push(body);
        return HttpResponse.json({ service: service('email', { phase: 'installing' }), plan: [] }, { status: 202 });
      }),
    );
    show(<StoreItem id="email" />, '/store/email');
    const user = userEvent.setup();
    const domain = await screen.findByLabelText('Domain');
    // The cell's own, which can be another.
    await waitFor(() => expect(domain).toHaveValue('home.cell'));
    await user.clear(domain);
    expect(domain).toBeRequired();
    expect(domain).toHaveAttribute('pattern');
    expect(screen.getByLabelText('Port')).toHaveAttribute('max', '99');
    expect(screen.getByLabelText('Port')).toHaveAccessibleDescription('A number from 1 to 99. Default: 80');
    await user.type(domain, 'bad.domain');
    expect(screen.getByText('Choose who may use it to see what happens.')).toBeTruthy();
    expect(screen.getByRole('button', { name: 'Install' })).toBeDisabled();
    await user.click(screen.getByLabelText('Every device'));
    await waitFor(() => expect(domain).toHaveAccessibleDescription(expect.stringContaining('is not a name')));
    expect(domain).toBeInvalid();
    await user.clear(domain);
    await user.type(domain, 'home.cell');
    expect(await screen.findByText('It gets a network.')).toBeTruthy();
    await user.click(screen.getByLabelText('Open'));
    await user.selectOptions(screen.getByLabelText('Mode'), 'fast');
    await user.click(screen.getByLabelText('Devices that I choose'));
    await user.click(await screen.findByRole('switch', { name: 'phone' }));
    expect(screen.getByText('1 device chosen')).toBeTruthy();
    await user.click(screen.getByRole('button', { name: 'Install' }));
    await waitFor(() => expect(window.location.pathname).toBe('/services/email'));
    const parameters = { domain: 'home.cell', open: 'true', mode: 'fast' };
    expect(sent).toEqual([{ parameters, everyone: false, allowed_peers: ['phone'] }]);
  });

  it('asks for a name where there can be several, and names what has to be installed before', async () => {
    cell([], [offer('tor', { instanceable: true, requires: ['proxy'], installed: ['tor-a'] })]);
    server.use(
      http.post('/api/services/tor/install', () => problem(409, 'SERVICE_REQUIRES', { detail: 'proxy is missing' })),
    );
    show(<StoreItem id="tor" />, '/store/tor');
    expect(await screen.findByText('Install first: proxy.')).toBeTruthy();
    expect(screen.getByRole('link', { name: 'Go to tor-a' })).toHaveAttribute('href', '/services/tor-a');
    await userEvent.click(screen.getByLabelText('Every device'));
    expect(screen.getByText('Fill in what is missing to see what happens.')).toBeTruthy();
    await userEvent.type(screen.getByLabelText('Name of this one'), 'b');
    expect(await screen.findByText('proxy is missing')).toBeTruthy();
  });

  it('asks what carries it, among what its manifest allows', async () => {
    const exits = [connection('vpn'), connection('onion', { type: 'tor' })];
    const tor = offer('search', { has_way_out: true, exit_types: ['tor'], default_exit_type: 'tor' });
    cell([], [tor, offer('files')]);
    const sent: unknown[] = [];
    server.use(
      get('/api/connectivity/connections', { connections: exits }),
      http.post('/api/services/search/install', async ({ request }) => {
        if (onlyAsks(request)) return HttpResponse.json({ service: null, plan: ['It is installed.'] });
        sent.push(await request.json());
        return HttpResponse.json({ service: service('search', { phase: 'installing' }), plan: [] }, { status: 202 });
      }),
    );
    const first = show(<StoreItem id="search" />, '/store/search');
    const user = userEvent.setup();
    await screen.findByRole('option', { name: 'onion' });
    const way = screen.getByLabelText('Goes out through');
    const names = within(way).getAllByRole('option');
    const words = names.map((one) => one.textContent);
    expect(words).toEqual(['As it asks for: through tor', 'Nowhere', 'The cell’s own line', 'onion']);
    await user.selectOptions(way, 'onion');
    await user.click(screen.getByLabelText('Every device'));
    await user.click(screen.getByRole('button', { name: 'Install' }));
    const connection_id = connection('onion', { type: 'tor' }).id;
    await waitFor(() => expect(sent).toEqual([{ parameters: {}, everyone: true, allowed_peers: [], connection_id }]));
    first.unmount();
    show(<StoreItem id="files" />, '/store/files');
    await screen.findByText(/can be given none/);
  });

  it('offers no second installation, none of what is broken, and knows what it has not', async () => {
    cell([], [offer('files', { installed: ['files'] }), offer('broken', { faults: ['its digest differs'] })]);
    const first = show(<StoreItem id="files" />, '/store/files');
    await screen.findByText('It is installed');
    expect(screen.queryByRole('button', { name: 'Install' })).toBeNull();
    first.unmount();
    const second = show(<StoreItem id="broken" />, '/store/broken');
    await screen.findByText('its digest differs');
    expect(screen.queryByRole('button', { name: 'Install' })).toBeNull();
    second.unmount();
    show(<StoreItem id="nothing" />, '/store/nothing');
    await screen.findByText('The store has no such service');
  });
});
