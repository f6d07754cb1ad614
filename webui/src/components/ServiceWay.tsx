/** What carries a service's own traffic to the internet, asked about before it is changed. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import { connectionsQuery, networkChangeQuery, serviceNetworksQuery } from '../api/queries';
import type { Connection, ServiceNetwork } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { failOpenOf, isCarried, ownWord } from '../lib/exits';
import { ONLY_ASK } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { Confirm } from './Confirm';
import { ErrorNote } from './ErrorNote';
import { Select, Switch } from './Field';
import { Sentences } from './Sentences';
import { StandIns } from './StandIns';
import { Loaded } from './States';

const NONE = '';
const DIRECT = 'direct';
/** How long the cell waits for a word, where it is to take a change back without one. */
const SECONDS = 60;

export function ServiceWay({ service }: { service: string }) {
  const networks = useQuery(serviceNetworksQuery);
  return (
    <Loaded query={networks} rows={1}>
      {(all) => {
        const network = all.find((one) => one.service === service);
        return network ? <Way network={network} /> : <p className="text-muted">{t.app.unknown}</p>;
      }}
    </Loaded>
  );
}

function chosenWay({ egress, connection_id }: ServiceNetwork): string {
  if (egress === 'none') return NONE;
  return egress === 'direct' ? DIRECT : (connection_id ?? NONE);
}

/** What is asked for: the whole of it, since what is left out is none. */
interface Wish {
  way: string;
  standIns: readonly string[];
  failOpen: boolean | null;
}

function bodyOf({ way, standIns, failOpen }: Wish) {
  const isExit = way !== NONE && way !== DIRECT;
  return {
    connection_id: way === NONE ? null : way,
    fail_open: isExit ? failOpen : null,
    fallback_connection_ids: isExit ? standIns.filter((id) => id !== way) : [],
  };
}

/** Exits that may carry it, and what carries it already, whatever that is. */
export function offeredExits(
  exits: readonly Connection[],
  types: readonly string[],
  now: string | null = null,
): readonly Connection[] {
  return exits.filter((exit) => (isCarried(exit) && types.includes(exit.type)) || exit.id === now);
}

/** Asks the cell what a change would do, then makes it. */
function useWay(network: ServiceNetwork) {
  const queries = useQueryClient();
  const action = useAction();
  const [asked, setAsked] = useState<{ wish: Wish; plan: string[] }>();
  const [safe, setSafe] = useState(false);
  const request = (wish: Wish) => ({ path: { service: network.service }, body: bodyOf(wish) });
  const make = async (wish: Wish, query: { confirm_within?: number } = {}) => {
    await data(sdk.setServiceExit({ ...request(wish), query }));
    void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
    await queries.invalidateQueries({ queryKey: serviceNetworksQuery.queryKey });
  };
  const choose = (wish: Wish) =>
    void action.run(async () => {
      const { plan } = await data(sdk.setServiceExit({ ...request(wish), query: ONLY_ASK }));
      if (plan.length > 0) setAsked({ wish, plan });
      else await make(wish);
    });
  const question = asked && (
    <Confirm
      title={s.way.planTitle}
      text={
        <div className="flex flex-col gap-4">
          <Sentences of={asked.plan} />
          <Switch label={s.way.safe} help={s.way.safeHelp(SECONDS)} checked={safe} onChange={setSafe} />
        </div>
      }
      confirm={t.plan.make}
      act={() => make(asked.wish, safe ? { confirm_within: SECONDS } : {})}
      onClose={() => setAsked(undefined)}
    />
  );
  return { action, choose, question };
}

function Way({ network }: { network: ServiceNetwork }) {
  const exits = useQuery(connectionsQuery).data ?? [];
  const { action, choose, question } = useWay(network);
  const way = chosenWay(network);
  const standIns = network.fallback_connection_ids;
  const failOpen = network.fail_open;
  // What was chosen before the cell knew better can be taken away.
  if (!network.has_way_out && way === NONE) return <p className="text-muted text-sm">{s.way.noWayOut}</p>;
  const offered = offeredExits(exits, network.exit_types, network.connection_id);
  const options: [string, string][] = [
    [NONE, s.way.none],
    ...(network.has_way_out || way === DIRECT ? [[DIRECT, s.way.direct] as [string, string]] : []),
    ...offered.map((exit): [string, string] => [exit.id, exit.name]),
  ];
  return (
    <div className="flex flex-col gap-3">
      <p className="text-muted text-sm">{network.has_way_out ? s.way.text : s.way.noWayOut}</p>
      <ErrorNote error={action.error} />
      <Select
        label={s.way.label}
        options={options}
        value={way}
        disabled={action.pending}
        onChange={(event) => choose({ way: event.target.value, standIns, failOpen })}
        help={s.way.now[network.way]}
      />
      {network.has_way_out && network.connection_id && (
        <Select
          label={t.exits.whenDown}
          options={t.exits.failOptions}
          value={failOpenOf(network)}
          disabled={action.pending}
          onChange={(event) => choose({ way, standIns, failOpen: ownWord(event.target.value) })}
        />
      )}
      {network.has_way_out && network.connection_id && (
        <StandIns
          exit={network.connection_id}
          chosen={standIns}
          connections={exits.filter((one) => network.exit_types.includes(one.type) || standIns.includes(one.id))}
          pending={action.pending}
          set={(ids) => choose({ way, standIns: ids, failOpen })}
        />
      )}
      {question}
    </div>
  );
}
