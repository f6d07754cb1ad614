/** What exits mean for devices. Pure. */

import type { Connection, ConnectionImport, Peer } from '../api/types';

export const TYPES = ['wireguard_ext', 'openvpn', 'tor', 'sshuttle', 'proxy'] as const;

/** Types that a device can be bound to. */
const CARRIED: readonly string[] = ['wireguard_ext', 'openvpn', 'tor', 'sshuttle', 'proxy'];
/** Types that let a device out directly while they do not work, unless it says otherwise. */
const OPEN: readonly string[] = ['tor'];

export const isCarried = (connection: Connection): boolean => CARRIED.includes(connection.type);

/** A device's own word, as the options of a select. */
export type FailOpen = 'default' | 'no' | 'yes';

export function failOpenOf(peer: { fail_open?: boolean | null }): FailOpen {
  if (peer.fail_open === null || peer.fail_open === undefined) return 'default';
  return peer.fail_open ? 'yes' : 'no';
}

export function ownWord(failOpen: string): boolean | null {
  if (failOpen === 'yes') return true;
  return failOpen === 'no' ? false : null;
}

/** Whether it goes out directly while its exit does not work. */
export function opens(peer: Peer, exit: Connection | undefined): boolean {
  return peer.fail_open ?? (exit !== undefined && OPEN.includes(exit.type));
}

/** The names of devices that use an exit, bound to it or with it as a stand-in. */
export function usersOf(connection: Connection, peers: readonly Peer[]): string[] {
  const uses = (peer: Peer) =>
    peer.exit_connection_id === connection.id || peer.fallback_connection_ids.includes(connection.id);
  return peers.filter(uses).map((peer) => peer.name);
}

/** The fields that an exit of this type is made of. */
export function fieldsOf(type: string): (keyof ConnectionImport)[] {
  switch (type) {
    case 'wireguard_ext':
      return ['file'];
    case 'openvpn':
      return ['file', 'username', 'password'];
    case 'sshuttle':
      return ['target', 'private_key', 'host_keys'];
    case 'proxy':
      return ['url'];
    default:
      return [];
  }
}

/** What was filled in for a type; nothing for one that is made of nothing. */
export function importOf(type: string, filled: ConnectionImport): ConnectionImport | undefined {
  const fields = fieldsOf(type);
  if (fields.length === 0) return undefined;
  return Object.fromEntries(fields.filter((field) => filled[field]).map((field) => [field, filled[field]]));
}
