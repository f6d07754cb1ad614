import { useLayoutEffect, useState } from 'react';
import type { ApiError } from '../api/error';

const DEFAULT_SECONDS = 30;

/** Whole seconds until the refused request may be repeated; 0 when at once. A new error starts anew. */
export function useCountdown(error: ApiError | undefined): number {
  const [left, setLeft] = useState(0);
  useLayoutEffect(() => {
    if (!error) {
      setLeft(0);
      return;
    }
    // By the clock, not by ticks: a sleeping phone does not tick.
    const end = Date.now() + (error.retryAfterSeconds ?? DEFAULT_SECONDS) * 1000;
    const tick = () => setLeft(Math.max(0, Math.ceil((end - Date.now()) / 1000)));
    tick();
    const timer = setInterval(tick, 500);
    return () => clearInterval(timer);
  }, [error]);
  return left;
}
