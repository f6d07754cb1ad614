/** Says so where services cannot run, and how to change that. */

import { useQuery } from '@tanstack/react-query';
import { Container } from 'lucide-react';
import { containersQuery } from '../api/queries';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import { lacksDocker } from '../lib/services';
import { Disclosure } from './Disclosure';

export function NoDocker({ services = [] }: { services?: readonly Service[] | undefined }) {
  const docker = useQuery(containersQuery).data?.docker;
  const held = services.find(lacksDocker);
  const code = docker && !docker.reachable ? docker.reason : (held?.waiting?.code ?? held?.error?.code);
  if (!code) return null;
  return (
    <section
      aria-label={s.noDocker.title}
      className="flex items-start gap-4 rounded-2xl border border-line bg-warn-soft p-4 sm:px-6"
    >
      <Container aria-hidden className="mt-0.5 size-6 shrink-0 text-warn" />
      <div className="min-w-0">
        <p className="font-semibold text-warn">{s.noDocker.title}</p>
        <p className="mt-1">{s.noDocker.reason[code] ?? s.noDocker.other}</p>
        <p className="text-muted">{s.noDocker.text}</p>
        <Disclosure summary={s.noDocker.how}>
          <ol className="list-decimal space-y-1 ps-9 pb-1 text-sm">
            {s.noDocker.steps.map((step) => (
              <li key={step} className="break-words">
                {step}
              </li>
            ))}
          </ol>
        </Disclosure>
      </div>
    </section>
  );
}
