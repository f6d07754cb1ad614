/** The device list's filter and order: kept in the URL, applied by pure functions. */

import { fullAccess, type Peer } from '../api/types';
import { presenceOf } from './activity';

export const COLUMNS = ['name', 'state', 'address', 'access', 'traffic', 'added'] as const;
export type Column = (typeof COLUMNS)[number];

export const STATES = ['on', 'off', 'never'] as const;
export const ACCESSES = ['internet', 'p2p', 'services', 'none'] as const;

export interface View {
  text: string;
  state: (typeof STATES)[number] | undefined;
  access: (typeof ACCESSES)[number] | undefined;
  sort: Column;
  descending: boolean;
  /** From 1. */
  page: number;
}

export const PAGE_SIZE = 50;

/** Words that it does not know are left out, so that an old link still opens. */
export function viewFromSearch(search: string): View {
  const query = new URLSearchParams(search);
  const oneOf = <T extends string>(name: string, values: readonly T[]) => values.find((v) => v === query.get(name));
  return {
    text: query.get('q') ?? '',
    state: oneOf('state', STATES),
    access: oneOf('access', ACCESSES),
    sort: oneOf('sort', COLUMNS) ?? 'name',
    descending: query.get('dir') === 'desc',
    page: Math.max(1, Number.parseInt(query.get('page') ?? '1', 10) || 1),
  };
}

/** Empty for the view that is shown without any choice. */
export function searchFromView(view: View): string {
  const query = new URLSearchParams();
  if (view.text) query.set('q', view.text);
  if (view.state) query.set('state', view.state);
  if (view.access) query.set('access', view.access);
  if (view.sort !== 'name') query.set('sort', view.sort);
  if (view.descending) query.set('dir', 'desc');
  if (view.page > 1) query.set('page', String(view.page));
  return query.toString();
}

/** In order; equal ones by name. */
export function sortPeers(peers: readonly Peer[], sort: Column, descending: boolean): Peer[] {
  const direction = descending ? -1 : 1;
  const compare = COMPARE[sort];
  return [...peers].sort((a, b) => direction * compare(a, b) || byName(a, b));
}

/** Those that pass the filter, in the order in which they came. */
export function filterPeers(
  peers: readonly Peer[],
  view: Pick<View, 'text' | 'state' | 'access'>,
  nowMillis: number,
): Peer[] {
  const needle = view.text.trim().toLowerCase();
  return peers.filter(
    (peer) =>
      matchesText(peer, needle) && matchesState(peer, view.state, nowMillis) && matchesAccess(peer, view.access),
  );
}

function matchesText(peer: Peer, needle: string): boolean {
  return !needle || [peer.name, peer.ipv4, peer.ipv6].some((text) => text.toLowerCase().includes(needle));
}

function matchesState(peer: Peer, state: View['state'], nowMillis: number): boolean {
  const { state: now } = presenceOf(peer, nowMillis);
  return !state || now === { on: 'connected', off: 'away', never: 'never' }[state];
}

function matchesAccess(peer: Peer, wanted: View['access']): boolean {
  const access = fullAccess(peer.access);
  switch (wanted) {
    case undefined:
      return true;
    case 'internet':
      return access.internet;
    case 'p2p':
      return access.peer_to_peer;
    case 'services':
      return access.services.length > 0;
    case 'none':
      return !access.internet && !access.peer_to_peer && access.services.length === 0;
  }
}

const collator = new Intl.Collator('en', { numeric: true, sensitivity: 'base' });

function byName(a: Peer, b: Peer): number {
  return collator.compare(a.name, b.name);
}

const COMPARE: Record<Column, (a: Peer, b: Peer) => number> = {
  name: byName,
  // The latest first when ascending: whoever sorts by state looks for what is on.
  state: (a, b) => lastSeen(b) - lastSeen(a),
  address: (a, b) => addressNumber(a.ipv4) - addressNumber(b.ipv4),
  access: (a, b) => accessWeight(a) - accessWeight(b),
  traffic: (a, b) => trafficBytes(a) - trafficBytes(b),
  added: (a, b) => Date.parse(a.created_at) - Date.parse(b.created_at),
};

function lastSeen(peer: Peer): number {
  return Date.parse(peer.activity?.latest_handshake_at ?? '') || 0;
}

function addressNumber(ipv4: string): number {
  return ipv4.split('.').reduce((sum, octet) => sum * 256 + Number(octet), 0);
}

function accessWeight(peer: Peer): number {
  const access = fullAccess(peer.access);
  return (access.internet ? 1000 : 0) + (access.peer_to_peer ? 500 : 0) + access.services.length;
}

export function trafficBytes(peer: Peer): number {
  return peer.activity ? peer.activity.received_bytes + peer.activity.sent_bytes : -1;
}
