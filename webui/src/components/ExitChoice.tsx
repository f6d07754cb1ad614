/** Which exit a device uses, and what happens while that does not work: saved as it is chosen. */

import { useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useState } from 'react';
import { sdk } from '../api/client';
import { networkChangeQuery, peerQuery, peersQuery } from '../api/queries';
import type { ChangePlan, Connection, Peer } from '../api/types';
import { t } from '../i18n';
import { failOpenOf, isCarried, opens, ownWord } from '../lib/exits';
import { made, ONLY_ASK, planned, type Safe, safeOf } from '../lib/plan';
import type { Action } from '../lib/useAction';
import { Confirm } from './Confirm';
import { ErrorNote } from './ErrorNote';
import { Select } from './Field';
import { usePlanned } from './usePlanned';

interface Props {
  peer: Peer;
  connections: readonly Connection[];
}

/** Makes changes of a device's exit, asks first where they take something, and shows what became of them. */
export function useExitChange(): {
  action: Action;
  change: (ask: (query: Asking) => Promise<{ data: Peer | ChangePlan }>) => void;
  show: (updated: Peer) => Promise<void>;
  question: ReactNode;
} {
  const queries = useQueryClient();
  const { action, start, question } = usePlanned();
  const show = async (updated: Peer) => {
    queries.setQueryData(peerQuery(updated.name).queryKey, updated);
    void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
    await queries.invalidateQueries({ queryKey: peersQuery.queryKey });
  };
  const change = (ask: (query: Asking) => Promise<{ data: Peer | ChangePlan }>) =>
    start({ plan: () => planned(ask(ONLY_ASK)), make: async (safe) => show(await made(ask(safe))) });
  return { action, change, show, question };
}

/** How a change is sent: made, or only asked about. */
type Asking = Safe & { validate_only?: boolean };

export function ExitChoice({ peer, connections }: Props) {
  const { action, change, show, question } = useExitChange();
  const [opening, setOpening] = useState(false);
  const path = { name: peer.name };
  const exit = connections.find((one) => one.id === peer.exit_connection_id);
  // What is bound already is shown, whatever it is.
  const offered = connections.filter((one) => isCarried(one) || one === exit);
  const exits = [['', t.exits.own] as const, ...offered.map((one) => [one.id, one.name] as const)];
  const bind = (id: string) => change((query) => sdk.setPeerExit({ path, query, body: { connection_id: id || null } }));
  const setOpen = (fail_open: boolean | null, query: Asking) =>
    sdk.setPeerFailOpen({ path, query, body: { fail_open } });
  const choose = (chosen: string) => {
    // The kill switch is given up by nobody by mistake.
    if (chosen === 'yes') setOpening(true);
    else change((query) => setOpen(ownWord(chosen), query));
  };
  return (
    <div className="flex flex-col gap-4" aria-busy={action.pending || undefined}>
      <ErrorNote error={action.error} />
      <Select
        label={t.exits.through}
        options={exits}
        value={peer.exit_connection_id ?? ''}
        disabled={action.pending}
        onChange={(event) => bind(event.target.value)}
      />
      {peer.exit_connection_id && (
        <Select
          label={t.exits.whenDown}
          options={t.exits.failOptions}
          value={failOpenOf(peer)}
          disabled={action.pending}
          onChange={(event) => choose(event.target.value)}
          help={meaning(peer, exit)}
        />
      )}
      {opening && (
        <Confirm
          title={t.exits.openTitle}
          text={t.exits.openText(peer.name)}
          confirm={t.exits.open}
          act={async () => {
            const plan = await planned(setOpen(true, ONLY_ASK));
            await show(await made(setOpen(true, safeOf(plan))));
          }}
          onClose={() => setOpening(false)}
        />
      )}
      {question}
    </div>
  );
}

function meaning(peer: Peer, exit: Connection | undefined): string {
  switch (failOpenOf(peer)) {
    case 'default':
      return t.exits.failDefault(opens(peer, exit));
    case 'no':
      return t.exits.failNo;
    case 'yes':
      return t.exits.failYes;
  }
}
