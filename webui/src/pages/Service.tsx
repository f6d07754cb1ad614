/** One service: how it is, who may use it, its accounts, settings, log and health. */

import { useQuery } from '@tanstack/react-query';
import { SearchX } from 'lucide-react';
import { Link, useLocation } from 'wouter';
import { asApiError } from '../api/error';
import { serviceQuery, serviceStatusQuery } from '../api/queries';
import type { Service as Installed, ServiceContainer } from '../api/types';
import { BackLink } from '../components/BackLink';
import { buttonClass } from '../components/Button';
import { Card, type Fact, Facts, PageHeader } from '../components/Card';
import { NoDocker } from '../components/NoDocker';
import { OpenLink } from '../components/OpenLink';
import { ServiceAccess } from '../components/ServiceAccess';
import { ServiceAccounts } from '../components/ServiceAccounts';
import { ServiceActions } from '../components/ServiceActions';
import { ServiceBackup } from '../components/ServiceBackup';
import { ServiceConfig } from '../components/ServiceConfig';
import { ServiceHealth } from '../components/ServiceHealth';
import { ServiceLogs } from '../components/ServiceLogs';
import { ServiceProgress } from '../components/ServiceProgress';
import { ServiceReach } from '../components/ServiceReach';
import { ServiceSecrets } from '../components/ServiceSecrets';
import { ServiceState } from '../components/ServiceState';
import { ServiceTest } from '../components/ServiceTest';
import { ServiceWay } from '../components/ServiceWay';
import { Empty, Loaded } from '../components/States';
import { s } from '../i18n/services';
import { formatDateTime } from '../lib/format';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';
import { useUrls } from '../lib/useUrls';

export default function Service({ name }: { name: string }) {
  const service = useQuery(serviceQuery(name));
  useTitle(service.data?.title ?? name);
  const gone = service.error !== null && asApiError(service.error).status === 404;
  return (
    <>
      <BackLink href={paths.services}>{s.detail.back}</BackLink>
      {gone ? <Gone /> : <Loaded query={service}>{(data) => <Details service={data} />}</Loaded>}
    </>
  );
}

function Gone() {
  return (
    <Empty alone icon={<SearchX aria-hidden className="size-7" />} title={s.detail.gone} text={s.detail.goneText}>
      <Link href={paths.services} className={buttonClass()}>
        {s.list.title}
      </Link>
    </Empty>
  );
}

function Details({ service }: { service: Installed }) {
  const [, navigate] = useLocation();
  const url = useUrls()[service.name];
  const status = useQuery(serviceStatusQuery(service.name));
  const containers = status.data?.containers ?? [];
  const isCore = service.purpose === 'core';
  const there = service.phase === 'installed' || service.phase === 'updating';
  return (
    <>
      <PageHeader title={service.title} text={<ServiceState service={service} />}>
        {url && <OpenLink url={url} title={service.title} />}
      </PageHeader>
      <div className="flex flex-col gap-5">
        <NoDocker services={[service]} />
        <ServiceProgress service={service} />
        <ServiceActions service={service} onRemoved={() => navigate(paths.services)} />
        <div className="grid items-start gap-5 lg:grid-cols-2">
          <div className="flex min-w-0 flex-col gap-5">
            {!isCore && (
              <Card title={s.access.title}>
                <ServiceAccess service={service} />
              </Card>
            )}
            {service.has_accounts && (
              <Card title={s.accounts.title}>
                {there ? <ServiceAccounts service={service} /> : <p className="text-muted">{s.accounts.notYet}</p>}
              </Card>
            )}
            <Card title={s.config.title}>
              <ServiceConfig service={service} />
            </Card>
            <ServiceSecrets service={service} />
          </div>
          <div className="flex min-w-0 flex-col gap-5">
            <Card title={s.detail.facts}>
              <About service={service} containers={containers} fault={status.data?.fault ?? null} />
            </Card>
            {there && (
              <>
                <Card title={s.test.title}>
                  <ServiceTest service={service.name} />
                </Card>
                <Card title={s.backup.title}>
                  <ServiceBackup service={service.name} />
                </Card>
                {!isCore && (
                  <Card title={s.way.title}>
                    <ServiceWay service={service.name} />
                  </Card>
                )}
                {!isCore && (
                  <Card title={s.reach.title}>
                    <ServiceReach service={service.name} />
                  </Card>
                )}
              </>
            )}
            <Card title={s.health.title}>
              <ServiceHealth service={service.name} />
            </Card>
          </div>
        </div>
        {there && (
          <Card title={s.logs.title}>
            <ServiceLogs service={service.name} containers={containers.map((one) => one.name)} />
          </Card>
        )}
      </div>
    </>
  );
}

interface AboutProps {
  service: Installed;
  containers: readonly ServiceContainer[];
  fault: string | null;
}

function About({ service, containers, fault }: AboutProps) {
  const mono = (text: string) => <span className="break-all font-mono text-sm">{text}</span>;
  const facts: Fact[] = [
    [s.detail.version, service.version],
    [s.detail.since, formatDateTime(service.created_at)],
  ];
  if (service.address) facts.push([s.detail.address, mono(service.address)]);
  if (service.names.length > 0) facts.push([s.detail.names, mono(service.names.join(', ')), true]);
  return (
    <div className="flex flex-col gap-5">
      <Facts facts={facts} />
      <div>
        <h3 className="mb-1 text-muted text-sm">{s.detail.containers}</h3>
        <ul className="flex flex-col gap-1">
          {containers.map((one) => (
            <li key={one.name} className="flex flex-wrap justify-between gap-x-4">
              <span className="break-words font-mono text-sm">{one.name}</span>
              <span className="text-sm">
                {s.detail.containerState(one.state, one.health)}
                {one.restart_count > 0 && <span className="text-warn"> · {s.detail.restarts(one.restart_count)}</span>}
              </span>
            </li>
          ))}
        </ul>
        {containers.length === 0 && !fault && <p className="text-muted">{s.detail.containersNone}</p>}
        {fault && <p className="break-words text-sm text-warn first-letter:uppercase">{fault}</p>}
      </div>
    </div>
  );
}
