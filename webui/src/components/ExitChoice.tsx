/** Which exit a device uses, and what happens while that does not work: saved as it is chosen. */

import { useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import { networkChangeQuery, peerQuery, peersQuery } from '../api/queries';
import type { Connection, Peer } from '../api/types';
import { t } from '../i18n';
import { failOpenOf, isCarried, opens, ownWord } from '../lib/exits';
import { useSafeChange } from '../lib/ownDevice';
import { type Action, useAction } from '../lib/useAction';
import { Confirm } from './Confirm';
import { ErrorNote } from './ErrorNote';
import { Select } from './Field';

interface Props {
  peer: Peer;
  connections: readonly Connection[];
}

/** Runs a change of a device's exit and shows what became of it. */
export function useExitChange(): { action: Action; change: (ask: () => Promise<Peer>) => void } {
  const queries = useQueryClient();
  const action = useAction();
  const change = (ask: () => Promise<Peer>) => {
    void action.run(async () => {
      const updated = await ask();
      queries.setQueryData(peerQuery(updated.name).queryKey, updated);
      void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
      await queries.invalidateQueries({ queryKey: peersQuery.queryKey });
    });
  };
  return { action, change };
}

export function ExitChoice({ peer, connections }: Props) {
  const { action, change } = useExitChange();
  const [opening, setOpening] = useState(false);
  const path = { name: peer.name };
  const query = useSafeChange(peer.name);
  const exit = connections.find((one) => one.id === peer.exit_connection_id);
  // What is bound already is shown, whatever it is.
  const offered = connections.filter((one) => isCarried(one) || one === exit);
  const exits = [['', t.exits.own] as const, ...offered.map((one) => [one.id, one.name] as const)];
  const bind = (id: string) =>
    change(() => data(sdk.setPeerExit({ path, query, body: { connection_id: id || null } })));
  const setOpen = (fail_open: boolean | null) => data(sdk.setPeerFailOpen({ path, query, body: { fail_open } }));
  const choose = (chosen: string) => {
    // The kill switch is given up by nobody by mistake.
    if (chosen === 'yes') setOpening(true);
    else change(() => setOpen(ownWord(chosen)));
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
            const updated = await setOpen(true);
            change(async () => updated);
          }}
          onClose={() => setOpening(false)}
        />
      )}
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
