/** Who may use what: all services at a glance, a page of devices at a time. */

import { useQuery } from '@tanstack/react-query';
import { Blocks } from 'lucide-react';
import { useDeferredValue, useState } from 'react';
import { Link } from 'wouter';
import { peersQuery, servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { AccessGrid } from '../components/AccessGrid';
import { BackLink } from '../components/BackLink';
import { Button, buttonClass } from '../components/Button';
import { PageHeader } from '../components/Card';
import { Field } from '../components/Field';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { useAccess } from '../lib/useAccess';
import { useTitle } from '../lib/useTitle';

const PAGE = 50;

export default function AccessMatrix() {
  useTitle(s.matrix.title);
  const services = useQuery(servicesQuery);
  const peers = useQuery(peersQuery);
  return (
    <>
      <BackLink href={paths.services}>{s.list.title}</BackLink>
      <PageHeader title={s.matrix.title} text={s.matrix.text} />
      <Loaded query={services}>
        {(all) => {
          const shown = all.filter((one) => one.purpose !== 'core' && one.phase !== 'removing');
          if (shown.length === 0) return <None />;
          return (
            <Loaded query={peers}>
              {(devices) => <Matrix services={shown} devices={devices.map((peer) => peer.name)} />}
            </Loaded>
          );
        }}
      </Loaded>
    </>
  );
}

function None() {
  return (
    <Empty icon={<Blocks aria-hidden className="size-7" />} title={s.matrix.empty} text={s.matrix.emptyText}>
      <Link href={paths.store} className={buttonClass('primary')}>
        {s.list.toStore}
      </Link>
    </Empty>
  );
}

function Matrix({ services, devices }: { services: readonly Service[]; devices: readonly string[] }) {
  const access = useAccess();
  const [text, setText] = useState('');
  const [page, setPage] = useState(0);
  const wanted = useDeferredValue(text).trim().toLowerCase();
  const found = devices.filter((name) => name.toLowerCase().includes(wanted));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  const shown = found.slice(at * PAGE, (at + 1) * PAGE);
  return (
    <div className="flex flex-col gap-4">
      {devices.length > 10 && (
        <div className="max-w-md">
          <Field
            label={s.access.filter}
            type="search"
            value={text}
            placeholder={t.devices.name}
            onChange={(event) => {
              setText(event.target.value);
              setPage(0);
            }}
          />
        </div>
      )}
      <Refusals services={services} errors={access.errors} />
      <div className="relative max-h-[calc(100dvh-12rem)] min-h-64 w-fit max-w-full overflow-auto overscroll-contain rounded-2xl border border-line bg-card shadow-card">
        <AccessGrid services={services} devices={shown} access={access} />
      </div>
      {devices.length === 0 && <p className="text-muted">{s.access.noDevices}</p>}
      {devices.length > 0 && found.length === 0 && <p className="text-muted">{s.access.noMatch}</p>}
      {pages > 1 && (
        <div className="flex flex-wrap items-center gap-3">
          <Button disabled={at === 0} onClick={() => setPage(at - 1)}>
            {t.devices.previous}
          </Button>
          <span role="status" className="text-muted text-sm">
            {s.matrix.shown(at * PAGE + 1, at * PAGE + shown.length, found.length)}
          </span>
          <Button disabled={at + 1 >= pages} onClick={() => setPage(at + 1)}>
            {t.devices.next}
          </Button>
        </div>
      )}
    </div>
  );
}

interface RefusalsProps {
  services: readonly Service[];
  errors: Readonly<Record<string, { message: string }>>;
}

function Refusals({ services, errors }: RefusalsProps) {
  const refused = services.filter((one) => errors[one.name]);
  if (refused.length === 0) return null;
  return (
    <div role="alert" className="rounded-xl bg-bad-soft p-3.5 text-bad text-sm">
      <ul className="flex flex-col gap-1">
        {refused.map((one) => (
          <li key={one.name}>{s.matrix.failed(one.title, errors[one.name]?.message ?? '')}</li>
        ))}
      </ul>
    </div>
  );
}
