/** The pages of somebody signed in, the live stream, and the dialog that adds a device from anywhere. */

import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense, useEffect, useState } from 'react';
import { Route, Switch, useLocation } from 'wouter';
import { statusQuery } from './api/queries';
import type { Me } from './api/types';
import { Dialog } from './components/Dialog';
import { Shell } from './components/Shell';
import { NotFound, Skeleton } from './components/States';
import { WaitingChange } from './components/WaitingChange';
import { t } from './i18n';
import { paths } from './lib/paths';
import { useLive } from './lib/useLive';

const loadAddDevice = () => import('./components/AddDevice');
const AddDevice = lazy(() => loadAddDevice().then((module) => ({ default: module.AddDevice })));
const Home = lazy(() => import('./pages/Home'));
const Devices = lazy(() => import('./pages/Devices'));
const Device = lazy(() => import('./pages/Device'));
const Exits = lazy(() => import('./pages/Exits'));
const Services = lazy(() => import('./pages/Services'));
const Service = lazy(() => import('./pages/Service'));
const Store = lazy(() => import('./pages/Store'));
const StoreItem = lazy(() => import('./pages/StoreItem'));
const AccessMatrix = lazy(() => import('./pages/AccessMatrix'));
const ActivityLog = lazy(() => import('./pages/ActivityLog'));
const People = lazy(() => import('./pages/People'));
const Settings = lazy(() => import('./pages/Settings'));
const MyDevice = lazy(() => import('./pages/MyDevice'));

export default function SignedIn({ me, onSignOut }: { me: Me; onSignOut: () => void }) {
  const [adding, setAdding] = useState(false);
  const admin = me.role === 'admin';
  const live = useLive(admin);
  const status = useQuery({ ...statusQuery, enabled: admin });
  usePageStart();
  // So that the dialog takes the first key that is typed after it was asked for.
  useEffect(() => void (admin && loadAddDevice().catch(() => undefined)), [admin]);
  const add = () => setAdding(true);
  return (
    <Shell me={me} live={live} cellName={status.data?.cell_name} onAddDevice={add} onSignOut={onSignOut}>
      <Suspense fallback={<Skeleton onRetry={() => window.location.reload()} />}>
        {admin ? <AdminPages me={me} onAddDevice={add} /> : <MyDevice />}
      </Suspense>
      {admin && <WaitingChange />}
      {adding && <AddDialog onClose={() => setAdding(false)} />}
    </Shell>
  );
}

function AdminPages({ me, onAddDevice }: { me: Me; onAddDevice: () => void }) {
  return (
    <Switch>
      <Route path={paths.home}>
        <Home onAddDevice={onAddDevice} />
      </Route>
      <Route path={paths.devices}>
        <Devices onAddDevice={onAddDevice} />
      </Route>
      <Route path={`${paths.devices}/:name`}>
        {({ name }) => <Device key={name} name={decodeURIComponent(name)} />}
      </Route>
      <Route path={paths.exits}>
        <Exits />
      </Route>
      <Route path={paths.services}>
        <Services />
      </Route>
      <Route path={`${paths.services}/:name`}>
        {({ name }) => <Service key={name} name={decodeURIComponent(name)} />}
      </Route>
      <Route path={paths.store}>
        <Store />
      </Route>
      <Route path={`${paths.store}/:id`}>{({ id }) => <StoreItem key={id} id={decodeURIComponent(id)} />}</Route>
      <Route path={paths.access}>
        <AccessMatrix />
      </Route>
      <Route path={paths.activity}>
        <ActivityLog />
      </Route>
      <Route path={paths.people}>
        <People me={me} />
      </Route>
      <Route path={paths.settings}>
        <Settings />
      </Route>
      <Route>
        <NotFound />
      </Route>
    </Switch>
  );
}

function AddDialog({ onClose }: { onClose: () => void }) {
  const [ready, setReady] = useState<string>();
  return (
    <Dialog title={ready ? t.ready.title(ready) : t.add.title} onClose={onClose}>
      <Suspense fallback={<Skeleton rows={2} onRetry={() => window.location.reload()} />}>
        <AddDevice onDone={onClose} onReady={setReady} />
      </Suspense>
    </Dialog>
  );
}

/** A new page starts at its top and says its name. */
function usePageStart() {
  const [location] = useLocation();
  // biome-ignore lint/correctness/useExhaustiveDependencies: the effect belongs to the change of address
  useEffect(() => {
    // In new browsers it answers with a promise, which an effect must not.
    window.scrollTo(0, 0);
  }, [location]);
}
