/** What a device is doing, by WireGuard's own rule. Pure. */

import type { Peer } from '../api/types';

/** A session's key is thrown away after this long (REJECT_AFTER_TIME, WireGuard paper, section 6.1). */
export const CONNECTED_SECONDS = 180;

/** `unknown` when the network service is not reachable: unknown is not off. */
export type Presence =
  | { state: 'connected'; ageSeconds: number }
  | { state: 'away'; ageSeconds: number }
  | { state: 'never' }
  | { state: 'unknown' };

export function presenceOf(peer: Pick<Peer, 'activity'>, nowMillis: number): Presence {
  if (!peer.activity) return { state: 'unknown' };
  const at = peer.activity.latest_handshake_at;
  if (!at) return { state: 'never' };
  const ageSeconds = Math.max(0, (nowMillis - Date.parse(at)) / 1000);
  return { state: ageSeconds < CONNECTED_SECONDS ? 'connected' : 'away', ageSeconds };
}
