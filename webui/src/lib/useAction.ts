/** One act at a time with its error: what a form's submit button does. Keeps no answer, unlike a mutation cache. */

import { useQueryClient } from '@tanstack/react-query';
import { useCallback, useEffect, useRef, useState } from 'react';
import { type ApiError, asApiError } from '../api/error';
import { noteSession, sessionFromError } from '../api/queries';

export interface Action {
  pending: boolean;
  error: ApiError | undefined;
  /** `true` when the act succeeded. A second call while one runs does nothing. */
  run: (act: () => Promise<void>) => Promise<boolean>;
  clear: () => void;
}

export function useAction(): Action {
  const queries = useQueryClient();
  const [pending, setPending] = useState(false);
  const [error, setError] = useState<ApiError>();
  const busy = useRef(false);
  const mounted = useRef(true);
  useEffect(() => {
    mounted.current = true;
    return () => {
      mounted.current = false;
    };
  }, []);
  const run = useCallback(
    async (act: () => Promise<void>) => {
      if (busy.current) return false;
      busy.current = true;
      setPending(true);
      setError(undefined);
      try {
        await act();
        return true;
      } catch (thrown) {
        const session = sessionFromError(thrown);
        if (session) noteSession(queries, session);
        if (mounted.current) setError(asApiError(thrown));
        return false;
      } finally {
        busy.current = false;
        if (mounted.current) setPending(false);
      }
    },
    [queries],
  );
  const clear = useCallback(() => setError(undefined), []);
  return { pending, error, run, clear };
}
