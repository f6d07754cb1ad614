/** What pages read: keys and options of every query, in one place. */

import { type QueryClient, queryOptions } from '@tanstack/react-query';
import { data, sdk } from './client';
import { ApiError } from './error';
import type { Me } from './types';

/** Who sits at this browser. `setup`: the cell has no owner yet. `ended`: somebody was signed in, and did not sign out. */
export type Session = { kind: 'setup' } | { kind: 'signed-out'; ended?: true } | { kind: 'signed-in'; me: Me };

async function readSession({ client }: { client: QueryClient }): Promise<Session> {
  try {
    return { kind: 'signed-in', me: await data(sdk.getMe()) };
  } catch (error) {
    const session = sessionFromError(error);
    if (session) return sessionAfter(client.getQueryData<Session>(['session']), session);
    throw error;
  }
}

/** What the cell says, beside what was known before it. Pure. */
export function sessionAfter(before: Session | undefined, now: Session): Session {
  if (now.kind !== 'signed-out' || before === undefined || before.kind === 'setup') return now;
  return before.kind === 'signed-in' ? { kind: 'signed-out', ended: true } : before;
}

/** What an error says about the session; `undefined` when nothing. */
export function sessionFromError(error: unknown): Session | undefined {
  if (!(error instanceof ApiError)) return undefined;
  if (error.status === 428) return { kind: 'setup' };
  // A wrong password is 401 too, but says nothing about a session.
  if (error.status === 401 && error.code !== 'LOGIN') return { kind: 'signed-out' };
  return undefined;
}

export const sessionQuery = queryOptions({ queryKey: ['session'], queryFn: readSession, staleTime: 60_000 });

/** For whoever learned from a refusal that the session is another than it was. */
export function noteSession(queries: QueryClient, session: Session): void {
  setSession(queries, sessionAfter(queries.getQueryData<Session>(sessionQuery.queryKey), session));
}

/** For whoever began or ended it. */
export function setSession(queries: QueryClient, session: Session): void {
  queries.setQueryData<Session>(sessionQuery.queryKey, session);
}

export const setupQuery = queryOptions({ queryKey: ['setup'], queryFn: () => data(sdk.getSetupStatus()) });

export const statusQuery = queryOptions({ queryKey: ['status'], queryFn: () => data(sdk.getStatus()) });

export const configQuery = queryOptions({ queryKey: ['config'], queryFn: () => data(sdk.getConfig()) });

/** Under which domain services are found. Changes as the configuration does. */
export const domainQuery = queryOptions({ queryKey: ['config', 'domain'], queryFn: () => data(sdk.getDomain()) });

export const wireguardQuery = queryOptions({
  queryKey: ['wireguard'],
  queryFn: () => data(sdk.getWireguardStatus()),
});

export const peersQuery = queryOptions({
  queryKey: ['peers'],
  queryFn: async () => (await data(sdk.listPeers())).peers,
});

export const peerQuery = (name: string) =>
  queryOptions({ queryKey: ['peers', name], queryFn: () => data(sdk.getPeer({ path: { name } })) });

/** Asked for again while one waits: netd takes it back by itself. */
export const networkChangeQuery = queryOptions({
  queryKey: ['network-change'],
  queryFn: () => data(sdk.getNetworkChange()),
  refetchInterval: (query) => (query.state.data?.waiting ? 2000 : false),
});

/** The cell proves each exit every 20 s or so. */
const PROVEN_MILLIS = 15_000;

export const connectionsQuery = queryOptions({
  queryKey: ['connections'],
  queryFn: async () => (await data(sdk.listConnections())).connections,
  // That an exit was proven again is no event.
  refetchInterval: PROVEN_MILLIS,
});

/** Asked for again and again, because the event stream is for administrators. */
export const myPeerQuery = queryOptions({
  queryKey: ['peers', '', 'mine'],
  queryFn: () => data(sdk.getMyPeer()),
  refetchInterval: 15_000,
});

export const usersQuery = queryOptions({
  queryKey: ['users'],
  queryFn: async () => (await data(sdk.listUsers())).users,
});

/** The whole chain is read for it, so it is asked for by a person alone. */
export const auditVerdictQuery = queryOptions({
  queryKey: ['audit-verdict'],
  queryFn: () => data(sdk.verifyAudit()),
  enabled: false,
  staleTime: Number.POSITIVE_INFINITY,
});

export const AUDIT_PAGE = 50;

/** The newest records, newest first. */
export const auditTailQuery = (limit = AUDIT_PAGE) =>
  queryOptions({
    queryKey: ['audit', 'tail', limit],
    queryFn: () => data(sdk.listAudit({ query: { order: 'desc', limit } })),
  });

/** From the record `from` back. What is written down does not change, so that no event makes it stale. */
export const auditPageQuery = (from: number) =>
  queryOptions({
    queryKey: ['audit-page', from],
    queryFn: () => data(sdk.listAudit({ query: { order: 'desc', from, limit: AUDIT_PAGE } })),
    staleTime: 'static',
  });

export const servicesQuery = queryOptions({
  queryKey: ['services'],
  queryFn: async () => (await data(sdk.listServices())).services,
});

export const serviceQuery = (service: string) =>
  queryOptions({ queryKey: ['services', service], queryFn: () => data(sdk.getService({ path: { service } })) });

/** With its containers; a restart of one is no event, so it is asked for again while somebody looks. */
export const serviceStatusQuery = (service: string) =>
  queryOptions({
    queryKey: ['services', service, 'status'],
    queryFn: () => data(sdk.getServiceStatus({ path: { service } })),
    refetchInterval: 10_000,
  });

/** Secrets of a service, and whether they are set. */
export const serviceSecretsQuery = (service: string) =>
  queryOptions({
    queryKey: ['services', service, 'secrets'],
    queryFn: async () => (await data(sdk.listServiceSecrets({ path: { service } }))).secrets,
  });

/** What the navigation shows. The event stream is for administrators: others ask again and again. */
export const activeServicesQuery = (live: boolean) =>
  queryOptions({
    queryKey: ['active-services'],
    queryFn: async () => (await data(sdk.listActiveServices())).services,
    refetchInterval: live ? false : 15_000,
  });

export const catalogQuery = queryOptions({ queryKey: ['catalog'], queryFn: () => data(sdk.getCatalog()) });

export const remoteCatalogsQuery = queryOptions({
  queryKey: ['remote-catalogs'],
  queryFn: async () => (await data(sdk.listRemoteCatalogs())).catalogs,
});

export const queryLogQuery = queryOptions({
  queryKey: ['config', 'query-log'],
  queryFn: async () => (await data(sdk.getQueryLog())).level,
});

/** Whether Docker can be used: no event tells of it. */
export const containersQuery = queryOptions({
  queryKey: ['containers'],
  queryFn: () => data(sdk.listContainers()),
  refetchInterval: 30_000,
});

export const accountsQuery = (service: string) =>
  queryOptions({
    queryKey: ['service-accounts', service],
    queryFn: async () => (await data(sdk.listAccounts({ path: { service } }))).accounts,
  });

export const healthHistoryQuery = (service: string) =>
  queryOptions({
    queryKey: ['service-health', service],
    queryFn: async () => (await data(sdk.getServiceHealthHistory({ path: { service } }))).entries,
  });

export const alertsQuery = queryOptions({
  queryKey: ['alerts'],
  queryFn: async () => (await data(sdk.listAlerts())).alerts,
});

export const serviceNetworksQuery = queryOptions({
  queryKey: ['service-networks'],
  queryFn: async () => (await data(sdk.listServiceNetworks())).services,
});

/** What an event's topic makes stale: these query keys, at most once in so many milliseconds. */
export interface Topic {
  keys: readonly (readonly string[])[];
  everyMillis: number;
}

/** What is told of services; the navigation's part listens to the window's event of its own. */
const SERVICE_KEYS = [
  ['services'],
  ['catalog'],
  ['remote-catalogs'],
  ['alerts'],
  ['service-health'],
  ['service-accounts'],
  ['service-networks'],
];

const CHANGE_MILLIS = 250;
const ACTIVITY_MILLIS = 5000;

/**
 * What each topic of the event stream names. `activity` is what moves by itself (handshakes, traffic); a cell that does not
 * tell it apart says `peers` instead, and one that knows more topics than this page is not listened to for them.
 */
export const TOPICS: Readonly<Record<string, Topic>> = {
  peers: { keys: [['peers']], everyMillis: CHANGE_MILLIS },
  activity: { keys: [['peers'], ['status']], everyMillis: ACTIVITY_MILLIS },
  connections: { keys: [['connections'], ['service-networks']], everyMillis: CHANGE_MILLIS },
  status: { keys: [['status'], ['wireguard'], ['network-change']], everyMillis: CHANGE_MILLIS },
  config: { keys: [['config'], ['status'], ['wireguard']], everyMillis: CHANGE_MILLIS },
  audit: { keys: [['audit']], everyMillis: CHANGE_MILLIS },
  services: { keys: SERVICE_KEYS, everyMillis: CHANGE_MILLIS },
  alerts: { keys: [['alerts'], ['service-health']], everyMillis: CHANGE_MILLIS },
};
