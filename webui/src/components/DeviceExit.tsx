/** A device's exit on its own page: which, whether it works, what stands in. */

import { useQuery } from '@tanstack/react-query';
import { X } from 'lucide-react';
import { sdk } from '../api/client';
import { connectionsQuery } from '../api/queries';
import type { Connection, Peer } from '../api/types';
import { t } from '../i18n';
import { isCarried } from '../lib/exits';
import { ErrorNote } from './ErrorNote';
import { ExitChoice, useExitChange } from './ExitChoice';
import { Select } from './Field';
import { Health, Proven } from './Health';
import { Loaded } from './States';

export function DeviceExit({ peer }: { peer: Peer }) {
  const connections = useQuery(connectionsQuery);
  return (
    <Loaded query={connections} rows={1}>
      {(all) => <Chosen peer={peer} connections={all} />}
    </Loaded>
  );
}

function Chosen({ peer, connections }: { peer: Peer; connections: readonly Connection[] }) {
  const exit = connections.find((one) => one.id === peer.exit_connection_id);
  return (
    <div className="flex flex-col gap-4">
      <p className="text-muted text-sm">{peer.access.internet ? t.exits.deviceText : t.exits.noInternet}</p>
      <ExitChoice peer={peer} connections={connections} />
      {exit && (
        <div>
          <Health status={exit.status} />
          <p className="text-muted text-sm first-letter:uppercase">{exit.status.detail}</p>
          <Proven at={exit.status.proven_at} />
          {peer.access.internet && <p className="text-sm">{wayOf(peer, connections)}</p>}
        </div>
      )}
      {exit && <StandIns peer={peer} connections={connections} />}
    </div>
  );
}

/** Which way it has now: its own exit, what stands in, or none. */
function wayOf(peer: Peer, connections: readonly Connection[]): string {
  const { way, way_connection_id: id } = peer;
  if (way === 'direct') return t.exits.nowDirect;
  if (way === 'nowhere') return t.exits.nowNowhere;
  const name = connections.find((one) => one.id === id)?.name ?? id ?? '';
  return id === peer.exit_connection_id ? t.exits.nowThrough(name) : t.exits.nowStandIn(name);
}

function StandIns({ peer, connections }: { peer: Peer; connections: readonly Connection[] }) {
  const { action, change, question } = useExitChange();
  const chosen = peer.fallback_connection_ids;
  const set = (ids: string[]) =>
    change((query) => sdk.setPeerFallbacks({ path: { name: peer.name }, query, body: { connection_ids: ids } }));
  const left = connections.filter(
    (one) => isCarried(one) && one.id !== peer.exit_connection_id && !chosen.includes(one.id),
  );
  const nameOf = (id: string) => connections.find((one) => one.id === id)?.name ?? id;
  if (left.length === 0 && chosen.length === 0) return null;
  return (
    <section aria-label={t.exits.standIns} className="flex flex-col gap-3">
      <h3 className="font-medium text-sm">{t.exits.standIns}</h3>
      <p className="text-muted text-sm">{t.exits.standInsText}</p>
      <ErrorNote error={action.error} />
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
                disabled={action.pending}
                onClick={() => set(chosen.filter((one) => one !== id))}
                className="flex size-11 shrink-0 cursor-pointer items-center justify-center rounded-xl text-muted hover:bg-hover hover:text-ink focus-visible:outline-2 focus-visible:outline-accent md:size-10"
              >
                <X aria-hidden className="size-4" />
              </button>
            </li>
          ))}
        </ol>
      )}
      {left.length > 0 && chosen.length < 8 && (
        <Select
          label={t.exits.addStandIn}
          options={[['', t.exits.choose] as const, ...left.map((one) => [one.id, one.name] as const)]}
          value=""
          disabled={action.pending}
          onChange={(event) => event.target.value && set([...chosen, event.target.value])}
        />
      )}
      {question}
    </section>
  );
}
