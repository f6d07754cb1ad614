/** Who sits here decides what is shown: the wizard, the password, or the pages. */

import { type QueryClient, QueryClientProvider, useQuery, useQueryClient } from '@tanstack/react-query';
import { lazy, Suspense, useCallback, useEffect } from 'react';
import { Redirect, Route, Switch } from 'wouter';
import { forgetCsrfToken, sdk } from './api/client';
import { sessionQuery, setSession } from './api/queries';
import type { Me } from './api/types';
import { Boundary } from './components/Boundary';
import { Plain } from './components/Plain';
import { Failed, Skeleton } from './components/States';
import { t } from './i18n';
import { watchAttention } from './lib/attention';
import { paths } from './lib/paths';
import { Login } from './pages/Login';

const Setup = lazy(() => import('./pages/Setup'));
const Welcome = lazy(() => import('./pages/Welcome'));
const ChangePassword = lazy(() => import('./pages/ChangePassword'));
const SignedIn = lazy(() => import('./SignedIn'));

export function App({ queries }: { queries: QueryClient }) {
  return (
    <Boundary>
      <QueryClientProvider client={queries}>
        <Suspense fallback={<Starting />}>
          <Gate />
        </Suspense>
      </QueryClientProvider>
    </Boundary>
  );
}

function Gate() {
  const session = useQuery(sessionQuery);
  useForgetting(session.data?.kind === 'signed-out');
  if (!session.data) {
    if (!session.error) return <Starting />;
    return (
      <Plain title={t.auth.starting}>
        <Failed error={session.error} onRetry={() => void session.refetch()} />
      </Plain>
    );
  }
  switch (session.data.kind) {
    case 'setup':
      return <Setup />;
    case 'signed-out':
      return <Login ended={session.data.ended === true} />;
    case 'signed-in':
      return session.data.me.must_change_password ? <ChangePassword /> : <Pages me={session.data.me} />;
  }
}

/** What was read for somebody who is signed in is not kept for whoever comes next. */
function useForgetting(signedOut: boolean) {
  const queries = useQueryClient();
  useEffect(() => {
    if (!signedOut) return;
    forgetCsrfToken();
    queries.removeQueries({ predicate: (query) => query.queryKey[0] !== 'session' });
  }, [queries, signedOut]);
}

function Pages({ me }: { me: Me }) {
  const queries = useQueryClient();
  useEffect(() => watchAttention(() => void queries.invalidateQueries({ queryKey: sessionQuery.queryKey })), [queries]);
  const signOut = useCallback(async () => {
    try {
      await sdk.logout();
      setSession(queries, { kind: 'signed-out' });
    } catch {
      // Only the cell knows whether the session has ended.
      await queries.fetchQuery({ ...sessionQuery, staleTime: 0 }).catch(() => undefined);
    }
    forgetCsrfToken();
  }, [queries]);
  return (
    <Switch>
      <Route path={paths.login}>
        <Redirect to={paths.home} replace />
      </Route>
      <Route path={paths.setup}>
        <Redirect to={paths.home} replace />
      </Route>
      {me.role === 'admin' && (
        <Route path={paths.welcome}>
          <Welcome />
        </Route>
      )}
      <Route>
        <SignedIn me={me} onSignOut={() => void signOut()} />
      </Route>
    </Switch>
  );
}

function Starting() {
  return (
    <div className="mx-auto max-w-md px-4 py-24">
      <Skeleton rows={3} onRetry={() => window.location.reload()} />
    </div>
  );
}
