/** Answers of a cell, typed by the generated client: a changed API does not compile here. */

import { QueryClientProvider } from '@tanstack/react-query';
import { render } from '@testing-library/react';
import { HttpResponse, http, type JsonBodyType } from 'msw';
import type { ReactNode } from 'react';
import type {
  AuditPage,
  AuditVerdict,
  CatalogService,
  ChangePlan,
  Config,
  Connection,
  FormField,
  Me,
  NetworkChange,
  Peer,
  Problem,
  Service,
  SetupStatus,
  Status,
} from '../api/gen';
import { makeQueryClient } from '../api/queryClient';

export const ME: Me = { username: 'admin', role: 'admin', must_change_password: false };

export const STATUS: Status = {
  cell_name: 'home',
  connected_peer_count: 1,
  daemons: [
    {
      name: 'netd',
      reachable: true,
      conditions: [{ type: 'CONVERGED', status: 'true', reason: 'CONVERGED', message: 'as asked' }],
    },
    { name: 'broker', reachable: true, conditions: [] },
  ],
  domain: 'home.cell',
  domain_mode: 'lan',
  generation: 3,
  observed_generation: 3,
  peer_count: 2,
  timestamp: new Date().toISOString(),
  uptime_seconds: 90,
  version: '0.1.0',
};

export const CONFIG: Config = {
  cell_name: 'home',
  domain: 'home.cell',
  domain_mode: 'lan',
  endpoint_host: 'home.example.net',
  dns_upstreams: ['9.9.9.9', '149.112.112.112'],
  vpn_address_ipv4: '10.86.0.1',
  vpn_address_ipv6: 'fd00::1',
  vpn_range_ipv4: '10.86.0.0/24',
  vpn_range_ipv6: 'fd00::/64',
  wireguard_port: 51820,
};

export const SETUP: SetupStatus = { complete: false, claimed: false, answered_steps: [], next_step: 'claim' };

export const VERDICT: AuditVerdict = {
  intact: true,
  record_count: 0,
  anchor_count: 0,
  first_bad_sequence: null,
  detail: '',
};

export const NO_RECORDS: AuditPage = { records: [], next: null };

export function peer(name: string, change: Partial<Peer> = {}): Peer {
  return {
    name,
    public_key: 'SrUWV2owBjXiPTjjyVRUfAwYFJcPBEp6GuGaNvsn2RA=',
    ipv4: '10.86.0.2',
    ipv6: 'fd00::2',
    access: { internet: true, peer_to_peer: false, services: [] },
    tunnel: 'full',
    exit_connection_id: null,
    route_via: null,
    fail_open: null,
    fallback_connection_ids: [],
    way: 'direct',
    way_connection_id: null,
    config_needs_reinstall: false,
    version: '0123456789abcdef0123456789abcdef',
    created_at: '2026-11-20T10:00:00Z',
    activity: { connected: false, endpoint: null, latest_handshake_at: null, received_bytes: 0, sent_bytes: 0 },
    ...change,
  };
}

/** What a change would do: one statement of a kind. */
export function plan(kind: string, text = `laptop: ${kind}`): ChangePlan {
  return {
    statements: [{ kind, peers: ['laptop'], peer_count: 1, text }],
    own_path: 'stays',
    confirm_advised: false,
    warning: null,
    netd: { takes: true, says: [] },
  };
}

/** Whether a request only asks what its change would do. */
export function onlyAsks(request: Request): boolean {
  return new URL(request.url).searchParams.get('validate_only') === 'true';
}

/** Nothing waits for a confirmation. */
export const NOTHING_WAITS: NetworkChange = { waiting: null, last_rollback_at: null };

export function connection(name: string, change: Partial<Connection> = {}): Connection {
  return {
    id: `00000000-0000-4000-8000-${name.padEnd(12, '0').slice(0, 12)}`,
    type: 'wireguard_ext',
    name,
    mark: '0x1000',
    table: 1000,
    iface: 'wgext_00000000',
    redirect_port: null,
    config: {
      servers: [{ protocol: 'wireguard', host: '192.0.2.1', port: 51820, public_key: null }],
      username: null,
      addresses: [],
      resolvers: [],
      host_public_keys: [],
    },
    vault_names: [],
    status: { health: 'unknown', timestamp: null, proven_at: null, detail: 'nothing has been seen of it yet' },
    version: '1',
    created_at: '2026-11-20T10:00:00Z',
    ...change,
  };
}

/** A service of the store that runs, for nobody yet. */
export function service(name: string, change: Partial<Service> = {}): Service {
  return {
    name,
    id: name,
    instance: '',
    title: name.charAt(0).toUpperCase() + name.slice(1),
    version: '1.0',
    digest: `sha256:${'0'.repeat(64)}`,
    purpose: 'store',
    phase: 'installed',
    step: '',
    progress: null,
    waiting: null,
    error: null,
    stopped: false,
    published: true,
    address: '10.86.0.250',
    names: [`${name}.home.cell`],
    subnet: '172.21.0.0/28',
    bridge: 'cellsvc1',
    parameters: {},
    has_accounts: false,
    form: [],
    everyone: false,
    allowed_peers: [],
    update: null,
    created_at: '2026-11-20T10:00:00Z',
    updated_at: '2026-11-20T10:00:00Z',
    ...change,
  };
}

/** A field of a service's form: a word that has to be set. */
export function field(name: string, change: Partial<FormField> = {}): FormField {
  return {
    name,
    label: name,
    kind: 'string',
    min: null,
    max: null,
    pattern: 'word',
    max_length: 64,
    values: [],
    default: null,
    help: 'is a Word of at most 64 bytes',
    ...change,
  };
}

/** What the catalog has of a service. */
export function offer(id: string, change: Partial<CatalogService> = {}): CatalogService {
  return {
    id,
    title: id.charAt(0).toUpperCase() + id.slice(1),
    description: `All about ${id}.`,
    version: '1.0',
    digest: `sha256:${'0'.repeat(64)}`,
    purpose: 'store',
    instanceable: false,
    requires: [],
    has_way_out: false,
    exit_types: [],
    default_exit_type: null,
    form: [],
    installed: [],
    faults: [],
    origin: null,
    deployable: null,
    deployable_fix: null,
    ...change,
  };
}

/** A device whose last handshake was so many seconds ago. */
export function seen(name: string, seconds: number, change: Partial<Peer> = {}): Peer {
  const latest_handshake_at = new Date(Date.now() - seconds * 1000).toISOString();
  return peer(name, {
    activity: {
      connected: seconds < 180,
      endpoint: '203.0.113.7:5',
      latest_handshake_at,
      received_bytes: 1,
      sent_bytes: 2,
    },
    ...change,
  });
}

export function problem(
  status: number,
  code: string,
  change: Partial<Problem> = {},
  headers: Record<string, string> = {},
) {
  const body: Problem = {
    type: 'about:blank',
    title: code,
    status,
    code,
    detail: `${code} happened`,
    request_id: 'r-1',
    violations: [],
    ...change,
  };
  return HttpResponse.json(body, { status, headers: { 'content-type': 'application/problem+json', ...headers } });
}

export const get = (path: string, body: JsonBodyType) => http.get(path, () => HttpResponse.json(body));

export function show(page: ReactNode, path = '/') {
  window.history.replaceState(null, '', path);
  const queries = makeQueryClient();
  queries.setDefaultOptions({ queries: { retry: false } });
  return render(<QueryClientProvider client={queries}>{page}</QueryClientProvider>);
}
