/** The cell's clock as this browser knows it: a phone that is minutes off must not call a live device gone. */

import { useSyncExternalStore } from 'react';

let offsetMillis = 0;

/** Learns the difference from the `Date` header of an answer (RFC 9110, section 6.6.1; whole seconds). */
export function learnServerTime(dateHeader: string | null): void {
  const server = Date.parse(dateHeader ?? '');
  // Half a second is the mean of what the header cut off.
  if (!Number.isNaN(server)) offsetMillis = server + 500 - Date.now();
}

/** Milliseconds since 1970 on the cell's clock. */
export function serverNow(): number {
  return Date.now() + offsetMillis;
}

const TICK_MILLIS = 5000;
const listeners = new Set<() => void>();
let timer: ReturnType<typeof setInterval> | undefined;
let tick = serverNow();

function subscribe(listener: () => void): () => void {
  if (listeners.size === 0) {
    timer = setInterval(() => {
      tick = serverNow();
      for (const notify of listeners) notify();
    }, TICK_MILLIS);
  }
  listeners.add(listener);
  return () => {
    listeners.delete(listener);
    if (listeners.size === 0) clearInterval(timer);
  };
}

/** The cell's time, renewed every five seconds by one timer for the whole page. */
export function useServerNow(): number {
  useSyncExternalStore(subscribe, () => tick);
  return serverNow();
}
