/** A device's exit on its own page: which, whether it works, what stands in. */

import { useQuery } from '@tanstack/react-query';
import { sdk } from '../api/client';
import { connectionsQuery } from '../api/queries';
import type { Connection, Peer } from '../api/types';
import { t } from '../i18n';
import { ErrorNote } from './ErrorNote';
import { ExitChoice, useExitChange } from './ExitChoice';
import { Health, Proven } from './Health';
import { StandIns } from './StandIns';
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
      {exit && <DeviceStandIns peer={peer} exit={exit.id} connections={connections} />}
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

function DeviceStandIns({ peer, exit, connections }: { peer: Peer; exit: string; connections: readonly Connection[] }) {
  const { action, change, question } = useExitChange();
  const chosen = peer.fallback_connection_ids;
  const set = (ids: string[]) =>
    change((query) => sdk.setPeerFallbacks({ path: { name: peer.name }, query, body: { connection_ids: ids } }));
  return (
    <div className="flex flex-col gap-3">
      <ErrorNote error={action.error} />
      <StandIns exit={exit} chosen={chosen} connections={connections} pending={action.pending} set={set} />
      {question}
    </div>
  );
}
