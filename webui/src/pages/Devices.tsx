/** All devices: one list, sorted by any column, filtered by the URL. */

import { useQuery } from '@tanstack/react-query';
import { Plus, SearchX, Smartphone } from 'lucide-react';
import { useCallback, useDeferredValue, useMemo } from 'react';
import { useLocation, useSearch } from 'wouter';
import { peersQuery } from '../api/queries';
import type { Peer } from '../api/types';
import { Button } from '../components/Button';
import { PageHeader } from '../components/Card';
import { DeviceFilter } from '../components/DeviceFilter';
import { DeviceTable } from '../components/DeviceTable';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { useServerNow } from '../lib/clock';
import { filterPeers, PAGE_SIZE, searchFromView, sortPeers, type View, viewFromSearch } from '../lib/deviceList';
import { formatCount } from '../lib/format';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';

export default function Devices({ onAddDevice }: { onAddDevice: () => void }) {
  useTitle(t.devices.title);
  const peers = useQuery(peersQuery);
  return (
    <>
      <PageHeader title={t.devices.title} />
      <Loaded query={peers} rows={6}>
        {(all) => (all.length === 0 ? <NoDevices onAddDevice={onAddDevice} /> : <List peers={all} />)}
      </Loaded>
    </>
  );
}

function NoDevices({ onAddDevice }: { onAddDevice: () => void }) {
  return (
    <Empty icon={<Smartphone aria-hidden className="size-7" />} title={t.devices.empty} text={t.devices.emptyText}>
      <Button kind="primary" onClick={onAddDevice}>
        <Plus aria-hidden className="size-4" />
        {t.nav.addDevice}
      </Button>
    </Empty>
  );
}

function List({ peers }: { peers: Peer[] }) {
  const search = useSearch();
  const [, navigate] = useLocation();
  const now = useServerNow();
  const view = useMemo(() => viewFromSearch(search), [search]);
  // Ten thousand names take a while to sort; they are sorted again only when they, or their order, change.
  const sorted = useMemo(() => sortPeers(peers, view.sort, view.descending), [peers, view.sort, view.descending]);
  const filter = useDeferredValue(view);
  const shown = useMemo(() => filterPeers(sorted, filter, now), [sorted, filter, now]);
  const pages = Math.max(1, Math.ceil(shown.length / PAGE_SIZE));
  const page = Math.min(view.page, pages);
  const change = useCallback(
    (part: Partial<View>) => {
      // A new filter starts at its first page; typing does not fill the history.
      const query = searchFromView({ ...view, page: 1, ...part });
      navigate(query ? `${paths.devices}?${query}` : paths.devices, { replace: true });
    },
    [view, navigate],
  );
  const clear = () => change({ text: '', state: undefined, access: undefined });
  return (
    <div className="flex flex-col gap-4">
      <DeviceFilter view={view} onChange={change} />
      <p role="status" className="text-muted text-sm">
        {t.devices.shown(formatCount(shown.length), formatCount(peers.length))}
      </p>
      {shown.length === 0 ? (
        <Empty icon={<SearchX aria-hidden className="size-7" />} title={t.devices.noMatch} text={t.devices.noMatchText}>
          <Button onClick={clear}>{t.devices.clear}</Button>
        </Empty>
      ) : (
        <DeviceTable
          peers={shown.slice((page - 1) * PAGE_SIZE, page * PAGE_SIZE)}
          view={view}
          now={now}
          onSort={(sort) => change({ sort, descending: sort === view.sort && !view.descending })}
        />
      )}
      {pages > 1 && <Pager page={page} pages={pages} onPage={(to) => change({ page: to })} />}
    </div>
  );
}

function Pager({ page, pages, onPage }: { page: number; pages: number; onPage: (page: number) => void }) {
  return (
    <div className="flex items-center justify-between gap-3">
      <Button disabled={page <= 1} onClick={() => onPage(page - 1)}>
        {t.devices.previous}
      </Button>
      <span className="text-muted text-sm">{t.devices.page(page, pages)}</span>
      <Button disabled={page >= pages} onClick={() => onPage(page + 1)}>
        {t.devices.next}
      </Button>
    </div>
  );
}
