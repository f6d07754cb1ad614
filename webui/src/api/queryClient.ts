/** One cache for the page; an answer that tells of the session changes the session. */

import { QueryCache, QueryClient } from '@tanstack/react-query';
import { ApiError } from './error';
import { noteSession, sessionFromError } from './queries';

/** Faults of the request are not repeated; no answer and faults of the server are, twice. */
function retry(failures: number, error: unknown): boolean {
  const final = error instanceof ApiError && error.status >= 400 && error.status < 500;
  return !final && failures < 2;
}

export function makeQueryClient(): QueryClient {
  const queries: QueryClient = new QueryClient({
    queryCache: new QueryCache({
      onError: (error, query) => {
        const session = sessionFromError(error);
        if (session && query.queryKey[0] !== 'session') noteSession(queries, session);
      },
    }),
    // The event stream says when data is stale; until then it is fresh.
    defaultOptions: { queries: { staleTime: 60_000, retry, retryDelay: 700, refetchOnWindowFocus: false } },
  });
  return queries;
}
