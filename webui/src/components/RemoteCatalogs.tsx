/** Catalogs that others sign and serve: how each is, and a form for another. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useId, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { catalogQuery, connectionsQuery, remoteCatalogsQuery } from '../api/queries';
import type { RemoteCatalog } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { stateOfCatalog } from '../lib/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Card } from './Card';
import { Confirm } from './Confirm';
import { Disclosure } from './Disclosure';
import { ErrorNote } from './ErrorNote';
import { Field, INPUT, Select } from './Field';

const FIELDS = ['name', 'url', 'keys', 'ca', 'connection_id'];
const EMPTY = { name: '', url: '', keys: '', ca: '', connection: '' };

export function RemoteCatalogs() {
  const catalogs = useQuery(remoteCatalogsQuery);
  return (
    <Card title={s.remote.title}>
      <p className="text-muted text-sm">{s.remote.text}</p>
      {(catalogs.data ?? []).length > 0 && (
        <ul aria-label={s.remote.list} className="mt-3 divide-y divide-line">
          {catalogs.data?.map((one) => (
            <One key={one.name} catalog={one} />
          ))}
        </ul>
      )}
      <div className="mt-3">
        <Disclosure summary={s.remote.add}>
          <Add />
        </Disclosure>
      </div>
    </Card>
  );
}

function useFresh() {
  const queries = useQueryClient();
  return () => {
    void queries.invalidateQueries({ queryKey: remoteCatalogsQuery.queryKey });
    void queries.invalidateQueries({ queryKey: catalogQuery.queryKey });
  };
}

function One({ catalog }: { catalog: RemoteCatalog }) {
  const action = useAction();
  const fresh = useFresh();
  const [asks, setAsks] = useState(false);
  const path = { catalog: catalog.name };
  const refresh = () =>
    action.run(async () => {
      await data(sdk.refreshRemoteCatalog({ path }));
      fresh();
    });
  const { bad, text } = stateOfCatalog(catalog);
  return (
    <li aria-label={catalog.name} className="flex flex-wrap items-start justify-between gap-3 py-3">
      <div className="min-w-0 flex-1 basis-64">
        <p className="font-medium">{catalog.name}</p>
        <p className="break-all text-muted text-sm">{catalog.url}</p>
        <p className={`break-words text-sm ${bad ? 'text-bad' : 'text-muted'}`}>{text}</p>
        {catalog.connection_name && <p className="text-muted text-sm">{s.remote.through(catalog.connection_name)}</p>}
        <ErrorNote error={action.error} />
      </div>
      <div className="flex flex-wrap gap-2">
        <Button
          pending={action.pending || catalog.refreshing}
          aria-label={s.remote.refreshOf(catalog.name)}
          onClick={() => void refresh()}
        >
          {s.remote.refresh}
        </Button>
        <Button kind="warning" aria-label={s.remote.removeOf(catalog.name)} onClick={() => setAsks(true)}>
          {s.act.remove}
        </Button>
      </div>
      {asks && (
        <Confirm
          title={s.remote.removeTitle(catalog.name)}
          text={s.remote.removeText}
          confirm={s.act.remove}
          act={async () => {
            await data(sdk.removeRemoteCatalog({ path }));
            fresh();
          }}
          onClose={() => setAsks(false)}
        />
      )}
    </li>
  );
}

function Add() {
  const action = useAction();
  const fresh = useFresh();
  const connections = useQuery(connectionsQuery);
  const [draft, setDraft] = useState(EMPTY);
  const edit = (part: Partial<typeof EMPTY>) => setDraft((before) => ({ ...before, ...part }));
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const { name, url, keys, ca, connection } = draft;
      const body = { name, url, keys: [keys], ca: ca.trim() || null, connection_id: connection || null };
      await data(sdk.addRemoteCatalog({ body }));
      setDraft(EMPTY);
      fresh();
    });
  };
  const { byField } = splitViolations(action.error, FIELDS);
  const ways = (connections.data ?? []).map((one) => [one.id, one.name] as const);
  return (
    <form onSubmit={submit} className="mt-2 flex flex-col gap-4">
      <Field
        label={s.remote.name}
        name="name"
        help={s.remote.nameHelp}
        value={draft.name}
        onChange={(event) => edit({ name: event.target.value.trim() })}
        error={byField.name}
        autoCapitalize="off"
        spellCheck={false}
        required
      />
      <Field
        label={s.remote.url}
        name="url"
        type="url"
        placeholder="https://catalog.example.org/cell/"
        value={draft.url}
        onChange={(event) => edit({ url: event.target.value.trim() })}
        error={byField.url}
        required
      />
      <Pem
        label={s.remote.keys}
        help={s.remote.keysHelp}
        value={draft.keys}
        onChange={(keys) => edit({ keys })}
        error={byField.keys}
        required
      />
      <Select
        label={s.remote.way}
        options={[['', s.remote.own], ...ways]}
        value={draft.connection}
        onChange={(event) => edit({ connection: event.target.value })}
        help={s.remote.wayHelp}
        error={byField.connection_id}
      />
      <Disclosure summary={s.remote.more} quiet>
        <Pem
          label={s.remote.ca}
          help={s.remote.caHelp}
          value={draft.ca}
          onChange={(ca) => edit({ ca })}
          error={byField.ca}
        />
      </Disclosure>
      <ErrorNote error={action.error} fields={FIELDS} />
      <Button kind="primary" type="submit" pending={action.pending} className="self-start">
        {action.pending ? t.app.saving : s.remote.add}
      </Button>
    </form>
  );
}

interface PemProps {
  label: string;
  help: string;
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
  required?: boolean;
}

function Pem({ label, help, value, onChange, error, required = false }: PemProps) {
  const id = useId();
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="font-medium text-sm">
        {label}
      </label>
      <textarea
        id={id}
        rows={4}
        value={value}
        required={required}
        spellCheck={false}
        onChange={(event) => onChange(event.target.value)}
        aria-invalid={error ? true : undefined}
        aria-describedby={`${id}-help`}
        className={`${INPUT} py-2 font-mono text-sm`}
      />
      <div id={`${id}-help`} className="text-muted text-sm">
        {error && <p className="text-bad first-letter:uppercase">{error}</p>}
        {help}
      </div>
    </div>
  );
}
