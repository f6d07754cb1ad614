/** Single places that a service's containers may reach besides, at home or at another service: each an address and a port. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { X } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { serviceNetworksQuery } from '../api/queries';
import type { ServiceAccess, ServiceNetwork } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { ONLY_ASK } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Confirm } from './Confirm';
import { ErrorNote } from './ErrorNote';
import { Field, Select } from './Field';
import { Sentences } from './Sentences';
import { Loaded } from './States';

/** Most that the cell takes. */
const MOST = 256;
const PROTOCOLS = [
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
] as const;
const NEW: ServiceAccess = { address: '', protocol: 'tcp', port: 0 };

export function ServiceReach({ service }: { service: string }) {
  const networks = useQuery(serviceNetworksQuery);
  return (
    <Loaded query={networks} rows={1}>
      {(all) => {
        const network = all.find((one) => one.service === service);
        return network ? <Places network={network} /> : <p className="text-muted">{t.app.unknown}</p>;
      }}
    </Loaded>
  );
}

function words({ address, protocol, port }: ServiceAccess): string {
  return `${address} ${protocol.toUpperCase()} ${port}`;
}

function Places({ network }: { network: ServiceNetwork }) {
  const queries = useQueryClient();
  const action = useAction();
  const [asked, setAsked] = useState<{ left: ServiceAccess[]; plan: string[] }>();
  const path = { service: network.service };
  const make = async (reach: ServiceAccess[]) => {
    await data(sdk.setServiceReach({ path, body: { reach } }));
    await queries.invalidateQueries({ queryKey: serviceNetworksQuery.queryKey });
  };
  const remove = (gone: ServiceAccess) =>
    void action.run(async () => {
      const left = network.reach.filter((one) => one !== gone);
      const { plan } = await data(sdk.setServiceReach({ path, body: { reach: left }, query: ONLY_ASK }));
      setAsked({ left, plan });
    });
  return (
    <div className="flex flex-col gap-3">
      <p className="text-muted text-sm">{network.has_way_out ? s.reach.text : s.reach.noWayOut}</p>
      <ErrorNote error={action.error} />
      {network.reach.length > 0 && (
        <ul aria-label={s.reach.title} className="flex flex-col gap-1">
          {network.reach.map((one) => (
            <li key={words(one)} className="flex items-center justify-between gap-2">
              <span className="min-w-0 break-words font-mono text-sm">{words(one)}</span>
              <button
                type="button"
                aria-label={s.reach.remove(words(one))}
                disabled={action.pending}
                onClick={() => remove(one)}
                className="flex size-11 shrink-0 cursor-pointer items-center justify-center rounded-xl text-muted hover:bg-hover hover:text-ink focus-visible:outline-2 focus-visible:outline-accent md:size-10"
              >
                <X aria-hidden className="size-4" />
              </button>
            </li>
          ))}
        </ul>
      )}
      {network.has_way_out && network.reach.length < MOST && (
        <Add index={network.reach.length} add={(one) => make([...network.reach, one])} />
      )}
      {asked && (
        <Confirm
          title={s.way.planTitle}
          text={<Sentences of={asked.plan} />}
          confirm={t.plan.make}
          act={() => make(asked.left)}
          onClose={() => setAsked(undefined)}
        />
      )}
    </div>
  );
}

interface AddProps {
  /** The new one's place in what is sent: the cell names faults by it. */
  index: number;
  add: (place: ServiceAccess) => Promise<void>;
}

function Add({ index, add }: AddProps) {
  const action = useAction();
  const [place, setPlace] = useState(NEW);
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (await action.run(() => add(place))) setPlace(NEW);
  };
  const fieldOf = (name: keyof ServiceAccess) => `reach[${index}].${name}`;
  const fields = [fieldOf('address'), fieldOf('protocol'), fieldOf('port')];
  const { byField } = splitViolations(action.error, fields);
  return (
    <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-3">
      <ErrorNote error={action.error} fields={fields} />
      <div className="grid gap-2 sm:grid-cols-[1fr_6rem_6rem]">
        <Field
          label={t.access.address}
          value={place.address}
          onChange={(event) => setPlace({ ...place, address: event.target.value.trim() })}
          error={byField[fieldOf('address')]}
          autoCapitalize="off"
          spellCheck={false}
          required
          mono
        />
        <Select
          label={t.access.protocol}
          options={PROTOCOLS}
          value={place.protocol}
          onChange={(event) => setPlace({ ...place, protocol: event.target.value })}
          error={byField[fieldOf('protocol')]}
        />
        <Field
          label={t.access.port}
          type="number"
          min={1}
          max={65535}
          required
          value={place.port || ''}
          onChange={(event) => setPlace({ ...place, port: event.target.valueAsNumber || 0 })}
          error={byField[fieldOf('port')]}
        />
      </div>
      <Button type="submit" pending={action.pending} className="self-start">
        {s.reach.add}
      </Button>
    </form>
  );
}
