/** Which services a device may use: a switch for each. Nothing where none is installed. */

import { useQuery } from '@tanstack/react-query';
import { useId } from 'react';
import { Link } from 'wouter';
import { servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { type AccessSwitches, useAccess } from '../lib/useAccess';
import { Card } from './Card';
import { ErrorNote } from './ErrorNote';
import { SWITCH } from './Field';

export function DeviceServices({ device }: { device: string }) {
  const access = useAccess();
  const services = (useQuery(servicesQuery).data ?? []).filter(
    (one) => one.purpose !== 'core' && one.phase !== 'removing',
  );
  if (services.length === 0) return null;
  return (
    <Card title={s.list.title}>
      <p className="mb-2 text-muted text-sm">{s.access.text}</p>
      <ul aria-label={s.list.title} className="divide-y divide-line">
        {services.map((service) => (
          <Row key={service.name} service={service} device={device} access={access} />
        ))}
      </ul>
    </Card>
  );
}

function Row({ service, device, access }: { service: Service; device: string; access: AccessSwitches }) {
  const id = useId();
  const { everyone, peers } = access.shown(service);
  return (
    <li className="py-1">
      <div className="flex min-h-11 items-center justify-between gap-4">
        <label htmlFor={id} className="min-w-0 flex-1 cursor-pointer break-words">
          {service.title}
        </label>
        {everyone && (
          <Link
            href={paths.service(service.name)}
            className="text-muted text-sm underline focus-visible:outline-2 focus-visible:outline-accent"
          >
            {s.list.everyone}
          </Link>
        )}
        <input
          id={id}
          type="checkbox"
          role="switch"
          checked={everyone || peers.has(device)}
          aria-checked={everyone || peers.has(device)}
          disabled={everyone}
          onChange={(event) => access.turn(service.name, { peer: device, may: event.target.checked })}
          className={SWITCH}
        />
      </div>
      <ErrorNote error={access.errors[service.name]} />
    </li>
  );
}
