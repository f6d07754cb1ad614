/** The catalog: what can be installed, found by a word. */

import { useQuery } from '@tanstack/react-query';
import { CircleCheck, PackageOpen, SearchX } from 'lucide-react';
import { useDeferredValue } from 'react';
import { Link, useLocation, useSearch } from 'wouter';
import { catalogQuery } from '../api/queries';
import type { CatalogService } from '../api/types';
import { BackLink } from '../components/BackLink';
import { Button } from '../components/Button';
import { PageHeader } from '../components/Card';
import { Field } from '../components/Field';
import { NoDocker } from '../components/NoDocker';
import { RemoteCatalogs } from '../components/RemoteCatalogs';
import { Empty, Loaded } from '../components/States';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { search } from '../lib/services';
import { useTitle } from '../lib/useTitle';

export default function Store() {
  useTitle(s.store.title);
  const catalog = useQuery(catalogQuery);
  return (
    <>
      <BackLink href={paths.services}>{s.store.back}</BackLink>
      <PageHeader title={s.store.title} text={s.store.text} />
      <div className="flex flex-col gap-5">
        <NoDocker />
        <Loaded query={catalog} rows={4}>
          {({ services, faults }) => (
            <>
              <Shelf all={services.filter((one) => one.purpose !== 'core')} />
              <Faults faults={faults} />
              <RemoteCatalogs />
            </>
          )}
        </Loaded>
      </div>
    </>
  );
}

function Shelf({ all }: { all: readonly CatalogService[] }) {
  const [, navigate] = useLocation();
  const text = new URLSearchParams(useSearch()).get('q') ?? '';
  const found = search(all, useDeferredValue(text));
  const look = (q: string) =>
    navigate(q ? `${paths.store}?${new URLSearchParams({ q })}` : paths.store, { replace: true });
  if (all.length === 0) {
    return (
      <Empty icon={<PackageOpen aria-hidden className="size-7" />} title={s.store.empty} text={s.store.emptyText} />
    );
  }
  return (
    <>
      <div className="max-w-md">
        <Field
          label={s.store.search}
          type="search"
          value={text}
          placeholder={s.store.searchHelp}
          onChange={(event) => look(event.target.value)}
        />
      </div>
      <p role="status" className="-mb-2 text-muted text-sm">
        {s.store.found(found.length)}
      </p>
      {found.length === 0 ? (
        <Empty icon={<SearchX aria-hidden className="size-7" />} title={s.store.none} text={s.store.noneText}>
          <Button onClick={() => look('')}>{s.store.clear}</Button>
        </Empty>
      ) : (
        <ul aria-label={s.store.list} className="grid gap-4 sm:grid-cols-2 lg:grid-cols-3">
          {found.map((one) => (
            <Tile key={one.id} service={one} />
          ))}
        </ul>
      )}
    </>
  );
}

function Tile({ service }: { service: CatalogService }) {
  return (
    <li className="relative flex flex-col gap-2 rounded-2xl border border-line bg-card p-5 shadow-card hover:border-accent">
      <h2 className="font-semibold text-base">
        <Link
          href={paths.storeItem(service.id)}
          className="after:absolute after:inset-0 after:rounded-2xl focus-visible:outline-none focus-visible:after:outline-2 focus-visible:after:outline-accent"
        >
          {service.title}
        </Link>
      </h2>
      <p className="break-words text-muted text-sm">{service.description}</p>
      <p className="mt-auto pt-2 text-muted text-sm">{s.list.version(service.version)}</p>
      <Marks service={service} />
    </li>
  );
}

function Marks({ service }: { service: CatalogService }) {
  return (
    <>
      {service.installed.length > 0 && (
        <p className="inline-flex items-center gap-2 font-medium text-good text-sm">
          <CircleCheck aria-hidden className="size-4" />
          {s.store.installed}
        </p>
      )}
      {service.faults.length > 0 && <p className="font-medium text-bad text-sm">{s.store.unusable}</p>}
      {service.origin && <p className="text-muted text-sm">{s.remote.from(service.origin)}</p>}
      {service.deployable === false && <p className="font-medium text-sm text-warn">{s.remote.notDeployable}</p>}
      {service.requires.length > 0 && (
        <p className="text-muted text-sm">{s.store.requires(service.requires.join(', '))}</p>
      )}
    </>
  );
}

function Faults({ faults }: { faults: readonly string[] }) {
  if (faults.length === 0) return null;
  return (
    <div className="rounded-xl bg-warn-soft p-4 text-sm text-warn">
      <p className="font-medium">{s.store.faults}</p>
      <ul className="mt-1 list-disc ps-4">
        {faults.map((fault) => (
          <li key={fault} className="break-words">
            {fault}
          </li>
        ))}
      </ul>
    </div>
  );
}
