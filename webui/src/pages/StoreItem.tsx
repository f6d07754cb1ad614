/** One service of the store: what it is, what has to be set, and what happens, before the click. */

import { useQuery } from '@tanstack/react-query';
import { SearchX } from 'lucide-react';
import { Link } from 'wouter';
import { catalogQuery, servicesQuery } from '../api/queries';
import type { CatalogService } from '../api/types';
import { BackLink } from '../components/BackLink';
import { buttonClass } from '../components/Button';
import { Card, PageHeader } from '../components/Card';
import { InstallForm } from '../components/InstallForm';
import { NoDocker } from '../components/NoDocker';
import { Empty, Loaded } from '../components/States';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';

export default function StoreItem({ id }: { id: string }) {
  const catalog = useQuery(catalogQuery);
  const found = catalog.data?.services.find((one) => one.id === id);
  useTitle(found?.title ?? s.store.title);
  return (
    <>
      <BackLink href={paths.store}>{s.store.title}</BackLink>
      <Loaded query={catalog}>{() => (found ? <Item service={found} /> : <Gone />)}</Loaded>
    </>
  );
}

function Gone() {
  return (
    <Empty alone icon={<SearchX aria-hidden className="size-7" />} title={s.store.gone} text={s.store.goneText}>
      <Link href={paths.store} className={buttonClass()}>
        {s.store.toStore}
      </Link>
    </Empty>
  );
}

function Item({ service }: { service: CatalogService }) {
  const installed = useQuery(servicesQuery).data ?? [];
  const missing = service.requires.filter((id) => !installed.some((one) => one.id === id && one.phase === 'installed'));
  const taken = service.installed.length > 0 && !service.instanceable;
  return (
    <>
      <PageHeader title={service.title} text={`${service.description} ${s.list.version(service.version)}`} />
      <div className="flex flex-col gap-5">
        <NoDocker />
        <Installed service={service} />
        {service.faults.length > 0 ? (
          <Card title={s.store.unusable}>
            <ul className="list-disc space-y-1 ps-5">
              {service.faults.map((fault) => (
                <li key={fault} className="break-words">
                  {fault}
                </li>
              ))}
            </ul>
          </Card>
        ) : (
          !taken && (
            <>
              {missing.length > 0 && <Missing ids={missing} />}
              {service.deployable === false ? (
                <Card title={s.remote.notDeployableTitle}>
                  <p className="whitespace-pre-wrap break-words first-letter:uppercase">{service.deployable_fix}</p>
                </Card>
              ) : (
                <InstallForm service={service} />
              )}
            </>
          )
        )}
      </div>
    </>
  );
}

function Missing({ ids }: { ids: readonly string[] }) {
  return (
    <div className="rounded-xl bg-warn-soft p-4 text-warn">
      <p>{s.install.missing(ids.join(', '))}</p>
      <ul className="mt-1 flex flex-wrap gap-4">
        {ids.map((id) => (
          <li key={id}>
            <Link href={paths.storeItem(id)} className="underline focus-visible:outline-2 focus-visible:outline-accent">
              {s.store.show(id)}
            </Link>
          </li>
        ))}
      </ul>
    </div>
  );
}

function Installed({ service }: { service: CatalogService }) {
  if (service.installed.length === 0) return null;
  return (
    <Card title={s.install.alreadyTitle}>
      <div className="flex flex-wrap gap-2">
        {service.installed.map((name) => (
          <Link key={name} href={paths.service(name)} className={buttonClass()}>
            {s.install.already(name)}
          </Link>
        ))}
      </div>
    </Card>
  );
}
