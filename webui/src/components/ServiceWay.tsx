/** What carries a service's own traffic to the internet, asked about before it is changed. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import { connectionsQuery, serviceNetworksQuery } from '../api/queries';
import type { ServiceNetwork } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { isCarried } from '../lib/exits';
import { ONLY_ASK } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { Confirm } from './Confirm';
import { ErrorNote } from './ErrorNote';
import { Select } from './Field';
import { Sentences } from './Sentences';
import { Loaded } from './States';

const NONE = '';
const DIRECT = 'direct';

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

function Way({ network }: { network: ServiceNetwork }) {
  const queries = useQueryClient();
  const action = useAction();
  const exits = useQuery(connectionsQuery).data ?? [];
  const [asked, setAsked] = useState<{ way: string; plan: string[] }>();
  const request = (way: string) => ({
    path: { service: network.service },
    body: { connection_id: way === NONE ? null : way },
  });
  const make = async (way: string) => {
    await sdk.setServiceExit(request(way));
    await queries.invalidateQueries({ queryKey: serviceNetworksQuery.queryKey });
  };
  const choose = (way: string) =>
    action.run(async () => {
      const { plan } = await data(sdk.setServiceExit({ ...request(way), query: ONLY_ASK }));
      if (plan.length > 0) setAsked({ way, plan });
      else await make(way);
    });
  const options: [string, string][] = [
    [NONE, s.way.none],
    [DIRECT, s.way.direct],
    ...exits.filter(isCarried).map((exit): [string, string] => [exit.id, exit.name]),
  ];
  return (
    <div className="flex flex-col gap-3">
      <p className="text-muted text-sm">{s.way.text}</p>
      <ErrorNote error={action.error} />
      <Select
        label={s.way.label}
        options={options}
        value={chosenWay(network)}
        disabled={action.pending}
        onChange={(event) => void choose(event.target.value)}
        help={s.way.now[network.way]}
      />
      {asked && (
        <Confirm
          title={s.way.planTitle}
          text={<Sentences of={asked.plan} />}
          confirm={t.plan.make}
          act={() => make(asked.way)}
          onClose={() => setAsked(undefined)}
        />
      )}
    </div>
  );
}
