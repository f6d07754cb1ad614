/** What an installation needs to know, and the cell's own words on what it will do. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { useLocation } from 'wouter';
import { data, sdk } from '../api/client';
import { type ApiError, asApiError, splitViolations } from '../api/error';
import { catalogQuery, configQuery, connectionsQuery, peersQuery, servicesQuery } from '../api/queries';
import type { CatalogService } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { paths } from '../lib/paths';
import { ONLY_ASK } from '../lib/plan';
import { formFields, isFilled, sentValues, shownValues, withDomain } from '../lib/services';
import { useAction } from '../lib/useAction';
import { useDebounced } from '../lib/useDebounced';
import { Button } from './Button';
import { Card } from './Card';
import { Choice } from './Choice';
import { ErrorNote } from './ErrorNote';
import { Field, Select } from './Field';
import { PeerPicker } from './PeerPicker';
import { ServiceForm } from './ServiceForm';
import { offeredExits } from './ServiceWay';

const REST_MILLIS = 400;

interface Draft {
  instance: string;
  values: Record<string, string>;
  /** Nobody is let in by a proposal of ours. */
  everyone: boolean | undefined;
  peers: ReadonlySet<string>;
  /** What carries it; empty: what its manifest has for it. */
  way: string;
}

export function InstallForm({ service }: { service: CatalogService }) {
  const queries = useQueryClient();
  const [, navigate] = useLocation();
  const action = useAction();
  const [draft, setDraft] = useState<Draft>(() => ({
    instance: '',
    values: {},
    everyone: undefined,
    peers: new Set(),
    way: '',
  }));
  const domain = useQuery(configQuery).data?.domain;
  const values = { ...withDomain(service.form, shownValues(service.form, {}), domain), ...draft.values };
  const edit = (part: Partial<Draft>) => setDraft((before) => ({ ...before, ...part }));
  const body = bodyOf(service, { ...draft, values });
  const filled = isFilled(service.form, values) && (!service.instanceable || draft.instance !== '');
  const complete = filled && draft.everyone !== undefined;
  const plan = usePlan(service.id, body, complete);
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const made = await data(sdk.installService({ path: { service: service.id }, body }));
      void queries.invalidateQueries({ queryKey: servicesQuery.queryKey });
      void queries.invalidateQueries({ queryKey: catalogQuery.queryKey });
      navigate(paths.service(made.service?.name ?? service.id));
    });
  };
  const error = action.error ?? plan.error;
  const fields = ['instance', 'allowed_peers', 'connection_id', ...formFields(service.form)];
  const { byField } = splitViolations(error, fields);
  return (
    <form onSubmit={submit} className="grid items-start gap-5 lg:grid-cols-2">
      <div className="flex min-w-0 flex-col gap-5">
        <Card title={s.install.settings}>
          <div className="flex flex-col gap-5">
            {service.instanceable && (
              <Field
                label={s.install.instance}
                name="instance"
                help={s.install.instanceHelp}
                value={draft.instance}
                onChange={(event) => edit({ instance: event.target.value.trim() })}
                error={byField.instance}
                autoCapitalize="off"
                spellCheck={false}
                required
              />
            )}
            <ServiceForm form={service.form} values={values} onChange={(values) => edit({ values })} errors={byField} />
            {service.form.length === 0 && !service.instanceable && <p className="text-muted">{s.install.noSettings}</p>}
          </div>
        </Card>
        <Card title={s.install.who}>
          <Who draft={draft} edit={edit} error={byField.allowed_peers} />
        </Card>
        <Card title={s.install.way}>
          <WayOut service={service} way={draft.way} edit={edit} error={byField.connection_id} />
        </Card>
      </div>
      <div className="lg:sticky lg:top-6">
        <Card title={s.install.plan}>
          <div className="flex flex-col gap-4">
            <Plan
              sentences={plan.sentences}
              waits={complete ? undefined : filled ? s.install.whoWaits : s.install.planWaits}
              refused={error !== undefined}
            />
            <ErrorNote error={error} fields={fields} />
            <Button kind="primary" type="submit" pending={action.pending} disabled={!complete} className="self-start">
              {s.install.install}
            </Button>
          </div>
        </Card>
      </div>
    </form>
  );
}

function bodyOf(service: CatalogService, { instance, values, everyone = false, peers, way }: Draft) {
  return {
    ...(service.instanceable && { instance }),
    parameters: sentValues(service.form, values),
    everyone,
    allowed_peers: everyone ? [] : [...peers].sort(),
    ...(way !== '' && { connection_id: way }),
  };
}

/** What the cell would do with it, asked for whenever the form has rested. */
function usePlan(id: string, body: ReturnType<typeof bodyOf>, complete: boolean) {
  const rested = useDebounced(JSON.stringify(body), REST_MILLIS);
  const plan = useQuery({
    queryKey: ['plan', 'install', id, rested],
    queryFn: async () => {
      const asked = { path: { service: id }, query: ONLY_ASK, body: JSON.parse(rested) as typeof body };
      return (await data(sdk.installService(asked))).plan;
    },
    enabled: complete,
    gcTime: 0,
    retry: false,
    placeholderData: (before) => before,
  });
  const fresh = complete && rested === JSON.stringify(body);
  const error: ApiError | undefined = fresh && plan.error ? asApiError(plan.error) : undefined;
  return { sentences: complete && !plan.error ? plan.data : undefined, error };
}

function Plan(props: { sentences: readonly string[] | undefined; waits: string | undefined; refused: boolean }) {
  const { sentences, waits, refused } = props;
  if (!sentences) {
    if (refused) return null;
    return <p className="text-muted">{waits ?? s.install.planAsks}</p>;
  }
  return (
    <ol aria-label={t.plan.label} className="flex list-decimal flex-col gap-2 ps-5">
      {sentences.map((sentence) => (
        <li key={sentence} className="break-words">
          {sentence}
        </li>
      ))}
    </ol>
  );
}

interface WayOutProps {
  service: CatalogService;
  way: string;
  edit: (part: Partial<Draft>) => void;
  error: string | undefined;
}

/** What carries its own traffic: what its manifest has for it, unless another way is chosen. */
function WayOut({ service, way, edit, error }: WayOutProps) {
  const exits = useQuery(connectionsQuery).data ?? [];
  if (!service.has_way_out) return <p className="text-muted text-sm">{s.way.noWayOut}</p>;
  const options: [string, string][] = [
    ['', s.install.wayDefault(service.default_exit_type)],
    ['none', s.way.none],
    ['direct', s.way.direct],
    ...offeredExits(exits, service.exit_types).map((exit): [string, string] => [exit.id, exit.name]),
  ];
  return (
    <Select
      label={s.way.label}
      options={options}
      value={way}
      onChange={(event) => edit({ way: event.target.value })}
      help={s.install.wayHelp}
      error={error}
    />
  );
}

interface WhoProps {
  draft: Draft;
  edit: (part: Partial<Draft>) => void;
  error: string | undefined;
}

function Who({ draft, edit, error }: WhoProps) {
  const peers = useQuery(peersQuery);
  const toggle = (name: string, chosen: boolean) => {
    const next = new Set(draft.peers);
    if (chosen) next.add(name);
    else next.delete(name);
    edit({ peers: next });
  };
  return (
    <fieldset className="flex flex-col gap-2">
      <legend className="sr-only">{s.install.who}</legend>
      <Choice
        name="who"
        label={s.install.everyone}
        text={s.install.everyoneText}
        checked={draft.everyone === true}
        onSelect={() => edit({ everyone: true })}
      />
      <Choice
        name="who"
        label={s.install.some}
        text={s.install.someText}
        checked={draft.everyone === false}
        onSelect={() => edit({ everyone: false })}
      />
      {error && <p className="text-bad text-sm">{error}</p>}
      {draft.everyone === false && (
        <div className="mt-2">
          <p role="status" className="mb-2 text-muted text-sm">
            {s.install.chosen(draft.peers.size)}
          </p>
          <PeerPicker
            label={s.access.devices}
            all={(peers.data ?? []).map((peer) => peer.name)}
            chosen={draft.peers}
            onToggle={toggle}
          />
        </div>
      )}
    </fieldset>
  );
}
