/** What pages read: keys and options of every query, in one place. */

import { type QueryClient, queryOptions } from '@tanstack/react-query';
import { data, sdk } from './client';
import { ApiError } from './error';
import type { Me } from './types';

/** Who sits at this browser. `setup`: the cell has no owner yet. */
export type Session = { kind: 'setup' } | { kind: 'signed-out' } | { kind: 'signed-in'; me: Me };

async function readSession(): Promise<Session> {
  try {
    return { kind: 'signed-in', me: await data(sdk.getMe()) };
  } catch (error) {
    const session = sessionFromError(error);
    if (session) return session;
    throw error;
  }
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

/** For whoever learned it by other means than asking. */
export function setSession(queries: QueryClient, session: Session): void {
  queries.setQueryData<Session>(sessionQuery.queryKey, session);
}

export const setupQuery = queryOptions({ queryKey: ['setup'], queryFn: () => data(sdk.getSetupStatus()) });

export const statusQuery = queryOptions({ queryKey: ['status'], queryFn: () => data(sdk.getStatus()) });

export const configQuery = queryOptions({ queryKey: ['config'], queryFn: () => data(sdk.getConfig()) });

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

export const auditVerdictQuery = queryOptions({
  queryKey: ['audit', 'verdict'],
  queryFn: () => data(sdk.verifyAudit()),
});

export const AUDIT_PAGE = 50;

/** `from` is the lowest sequence number of the page. */
export const auditQuery = (from: number, limit = AUDIT_PAGE) =>
  queryOptions({
    queryKey: ['audit', 'page', from, limit],
    queryFn: () => data(sdk.listAudit({ query: { from, limit } })),
  });

/** Query keys that an event's topic makes stale. */
export const TOPICS: Record<string, readonly (readonly string[])[]> = {
  peers: [['peers'], ['status'], ['wireguard']],
  status: [['status'], ['wireguard'], ['peers']],
  config: [['config'], ['status'], ['wireguard']],
  audit: [['audit']],
  services: [['services']],
};
