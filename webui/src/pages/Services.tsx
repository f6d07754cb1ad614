/** What is installed: how it is, where it is, and what can be done with it. */

import { useQuery } from '@tanstack/react-query';
import { Blocks, Grid3x3, Store } from 'lucide-react';
import { Link } from 'wouter';
import { servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { buttonClass } from '../components/Button';
import { Card, PageHeader } from '../components/Card';
import { NoDocker } from '../components/NoDocker';
import { OpenLink } from '../components/OpenLink';
import { ServiceActions } from '../components/ServiceActions';
import { ServiceProgress } from '../components/ServiceProgress';
import { ServiceState } from '../components/ServiceState';
import { Empty, Loaded } from '../components/States';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';
import { useUrls } from '../lib/useUrls';

export default function Services() {
  useTitle(s.list.title);
  const services = useQuery(servicesQuery);
  const urls = useUrls();
  return (
    <>
      <PageHeader title={s.list.title} text={s.list.text}>
        <div className="flex flex-wrap gap-2">
          <Link href={paths.access} className={buttonClass()}>
            <Grid3x3 aria-hidden className="size-4" />
            {s.list.matrix}
          </Link>
          <Link href={paths.store} className={buttonClass('primary')}>
            <Store aria-hidden className="size-4" />
            {s.list.store}
          </Link>
        </div>
      </PageHeader>
      <div className="flex flex-col gap-5">
        <NoDocker services={services.data} />
        <Loaded query={services} rows={3}>
          {(all) => {
            const own = all.filter((one) => one.purpose === 'core');
            const store = all.filter((one) => one.purpose !== 'core');
            return (
              <>
                {store.length === 0 ? <None /> : <List label={s.list.installed} services={store} urls={urls} />}
                {own.length > 0 && (
                  <Card title={s.list.core}>
                    <p className="-mt-2 mb-2 text-muted text-sm">{s.list.coreText}</p>
                    <List label={s.list.core} services={own} urls={urls} plain />
                  </Card>
                )}
              </>
            );
          }}
        </Loaded>
      </div>
    </>
  );
}

function None() {
  return (
    <Empty icon={<Blocks aria-hidden className="size-7" />} title={s.list.empty} text={s.list.emptyText}>
      <Link href={paths.store} className={buttonClass('primary')}>
        {s.list.toStore}
      </Link>
    </Empty>
  );
}

interface ListProps {
  label: string;
  services: readonly Service[];
  urls: Readonly<Record<string, string | null>>;
  plain?: boolean;
}

function List({ label, services, urls, plain = false }: ListProps) {
  const frame = plain ? '-mb-4' : 'rounded-2xl border border-line bg-card px-5 shadow-card sm:px-6';
  return (
    <ul aria-label={label} className={`divide-y divide-line ${frame}`}>
      {services.map((service) => (
        <Row key={service.name} service={service} url={urls[service.name]} />
      ))}
    </ul>
  );
}

function Row({ service, url }: { service: Service; url: string | null | undefined }) {
  const [name] = service.names;
  return (
    <li aria-label={service.title} className="flex flex-wrap items-start justify-between gap-x-6 gap-y-3 py-4">
      <div className="min-w-0 flex-1 basis-72">
        <Link
          href={paths.service(service.name)}
          className="inline-flex min-h-11 items-center break-words font-medium text-lg hover:underline focus-visible:outline-2 focus-visible:outline-accent md:min-h-8"
        >
          {service.title}
        </Link>
        <p className="break-words text-muted text-sm">
          {[s.list.version(service.version), name ?? service.address, users(service)].filter(Boolean).join(' · ')}
        </p>
        <div className="mt-2 flex flex-col gap-2">
          <ServiceState service={service} />
          <ServiceProgress service={service} brief />
        </div>
      </div>
      <div className="flex flex-wrap gap-2">
        {url && <OpenLink url={url} title={service.title} />}
        <ServiceActions service={service} />
      </div>
    </li>
  );
}

function users(service: Service): string | undefined {
  if (service.purpose === 'core') return undefined;
  return service.everyone ? s.list.everyone : s.list.users(service.allowed_peers.length);
}
