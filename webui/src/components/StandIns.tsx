/** Exits that take over while another does not work, in their order: of a device, or of a service. */

import { X } from 'lucide-react';
import type { Connection } from '../api/types';
import { t } from '../i18n';
import { isCarried } from '../lib/exits';
import { Select } from './Field';

/** Most that the cell takes. */
const MOST = 8;

interface Props {
  /** The exit that they stand in for. */
  exit: string;
  chosen: readonly string[];
  connections: readonly Connection[];
  pending: boolean;
  set: (ids: string[]) => void;
}

export function StandIns({ exit, chosen, connections, pending, set }: Props) {
  const left = connections.filter((one) => isCarried(one) && one.id !== exit && !chosen.includes(one.id));
  const nameOf = (id: string) => connections.find((one) => one.id === id)?.name ?? id;
  if (left.length === 0 && chosen.length === 0) return null;
  return (
    <section aria-label={t.exits.standIns} className="flex flex-col gap-3">
      <h3 className="font-medium text-sm">{t.exits.standIns}</h3>
      <p className="text-muted text-sm">{t.exits.standInsText}</p>
      {chosen.length > 0 && (
        <ol className="flex flex-col gap-1">
          {chosen.map((id, place) => (
            <li key={id} className="flex items-center justify-between gap-2">
              <span className="min-w-0 break-words">
                {place + 1}. {nameOf(id)}
              </span>
              <button
                type="button"
                aria-label={t.exits.removeStandIn(nameOf(id))}
                disabled={pending}
                onClick={() => set(chosen.filter((one) => one !== id))}
                className="flex size-11 shrink-0 cursor-pointer items-center justify-center rounded-xl text-muted hover:bg-hover hover:text-ink focus-visible:outline-2 focus-visible:outline-accent md:size-10"
              >
                <X aria-hidden className="size-4" />
              </button>
            </li>
          ))}
        </ol>
      )}
      {left.length > 0 && chosen.length < MOST && (
        <Select
          label={t.exits.addStandIn}
          options={[['', t.exits.choose] as const, ...left.map((one) => [one.id, one.name] as const)]}
          value=""
          disabled={pending}
          onChange={(event) => event.target.value && set([...chosen, event.target.value])}
        />
      )}
    </section>
  );
}
