/** Adds an exit, or replaces what one is made of. What is pasted is sent once and kept nowhere. */

import { type FormEvent, useId, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import type { ChangePlan, Connection, ConnectionImport } from '../api/types';
import { t } from '../i18n';
import { fieldsOf, importOf, TYPES } from '../lib/exits';
import { isRisky, ONLY_ASK, planned, stored } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';
import { Field, INPUT, PasswordField, Select } from './Field';
import { PlanList } from './PlanList';

/** As the cell takes them at most: its body limit, less the quotes around the text. */
const MOST_BYTES = 60_000;

interface Props {
  /** What is to be replaced; absent: a new one. */
  connection?: Connection;
  /** With what of the import is not used. */
  onSaved: (notes: string[]) => void;
}

export function ExitForm({ connection, onSaved }: Props) {
  const action = useAction();
  const [name, setName] = useState('');
  const [type, setType] = useState(connection?.type ?? 'wireguard_ext');
  const [filled, setFilled] = useState<ConnectionImport>({});
  /** What replacing means, once a person has to read it. */
  const [asked, setAsked] = useState<ChangePlan>();
  const made = importOf(type, filled);
  const done = (notes: string[]) => {
    setFilled({});
    onSaved(notes);
  };
  const replace = async (id: string, read: boolean) => {
    const change = { path: { id }, body: { import: made ?? {} } };
    const plan = read ? undefined : await planned(sdk.updateConnection({ ...change, query: ONLY_ASK }));
    if (plan && isRisky(plan)) setAsked(plan);
    else done((await stored(sdk.updateConnection(change))).notes);
  };
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      if (connection) await replace(connection.id, asked !== undefined);
      else done((await data(sdk.createConnection({ body: { name, type, import: made } }))).notes);
    });
  };
  if (asked) {
    return (
      <form onSubmit={submit} className="flex flex-col gap-5">
        <PlanList plan={asked} />
        <ErrorNote error={action.error} />
        <div className="flex flex-wrap justify-end gap-2">
          <Button onClick={() => setAsked(undefined)}>{t.app.cancel}</Button>
          <Button kind="danger" type="submit" pending={action.pending}>
            {t.plan.make}
          </Button>
        </div>
      </form>
    );
  }
  const parts = fieldsOf(type).map((field) => `import.${field}`);
  // A fault of a file is named by its line: "import.file line 3".
  const named = (action.error?.violations ?? []).map((violation) => violation.field);
  const lines = named.filter((field) => parts.some((part) => field.startsWith(`${part} `)));
  const fields = ['name', 'type', ...parts, ...lines];
  const { byField } = splitViolations(action.error, fields);
  const types = TYPES.map((one) => [one, t.exits.types[one] ?? one] as const);
  return (
    <form onSubmit={submit} className="flex flex-col gap-4">
      <p className="text-muted text-sm">{connection ? t.exits.replaceText : t.exits.serverText}</p>
      <ErrorNote error={action.error} fields={fields} />
      {!connection && (
        <>
          <Field
            label={t.exits.name}
            name="name"
            value={name}
            onChange={(event) => setName(event.target.value)}
            error={byField.name}
            autoFocus
            required
          />
          <Select
            label={t.exits.type}
            name="type"
            options={types}
            value={type}
            onChange={(event) => setType(event.target.value)}
            error={byField.type}
          />
        </>
      )}
      {fieldsOf(type).length === 0 && <p className="text-muted text-sm">{t.exits.torText}</p>}
      {fieldsOf(type).map((field) => (
        <ImportField
          key={field}
          type={type}
          field={field}
          value={filled[field] ?? ''}
          onChange={(value) => setFilled((before) => ({ ...before, [field]: value }))}
          error={faultsOf(`import.${field}`, byField)}
        />
      ))}
      <Button kind="primary" type="submit" pending={action.pending} className="self-end">
        {action.pending ? t.app.saving : t.app.save}
      </Button>
    </form>
  );
}

/** What is wrong with a field, and with each of its lines. */
function faultsOf(field: string, byField: Record<string, string>): string | undefined {
  const of = ([name, text]: [string, string]) => {
    if (name === field) return [text];
    return name.startsWith(`${field} `) ? [`${name.slice(field.length + 1)}: ${text}`] : [];
  };
  const faults = Object.entries(byField).flatMap(of);
  return faults.length > 0 ? faults.join('; ') : undefined;
}

interface ImportProps {
  type: string;
  field: keyof ConnectionImport;
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
}

function ImportField({ type, field, value, onChange, error }: ImportProps) {
  const set = (event: { target: { value: string } }) => onChange(event.target.value);
  const plain = { name: field, value, onChange: set, error, autoComplete: 'off', spellCheck: false };
  switch (field) {
    case 'file':
      return (
        <Pasted label={t.exits.file} help={t.exits.fileHelp[type]} value={value} onChange={onChange} error={error} />
      );
    case 'private_key':
      return (
        <Pasted
          label={t.exits.privateKey}
          help={t.exits.privateKeyHelp}
          value={value}
          onChange={onChange}
          error={error}
        />
      );
    case 'host_keys':
      return (
        <Pasted label={t.exits.hostKeys} help={t.exits.hostKeysHelp} value={value} onChange={onChange} error={error} />
      );
    case 'password':
      return <PasswordField label={t.exits.password} {...plain} />;
    case 'username':
      return <Field label={t.exits.username} help={t.exits.usernameHelp} optional {...plain} />;
    case 'target':
      return <Field label={t.exits.target} help={t.exits.targetHelp} mono {...plain} />;
    case 'url':
      return <Field label={t.exits.url} help={t.exits.urlHelp} mono {...plain} />;
    default:
      return null;
  }
}

interface PastedProps {
  label: string;
  help: string | undefined;
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
}

/** Many lines, pasted or taken from a file. */
function Pasted({ label, help, value, onChange, error }: PastedProps) {
  const id = useId();
  const take = async (file: File | undefined) => {
    if (file) onChange((await file.text()).slice(0, MOST_BYTES));
  };
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="font-medium text-sm">
        {label}
      </label>
      <textarea
        id={id}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        rows={6}
        maxLength={MOST_BYTES}
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        aria-invalid={error ? true : undefined}
        aria-describedby={`${id}-help${error ? ` ${id}-error` : ''}`}
        className={`${INPUT} py-2 font-mono text-sm`}
      />
      {error && (
        <p id={`${id}-error`} className="text-bad text-sm first-letter:uppercase">
          {error}
        </p>
      )}
      <p id={`${id}-help`} className="text-muted text-sm">
        {help}
      </p>
      <label className="flex flex-wrap items-center gap-2 text-sm">
        {t.exits.chooseFile}
        <input
          type="file"
          onChange={(event) => void take(event.target.files?.[0])}
          className="min-h-11 max-w-full cursor-pointer text-muted text-sm file:me-3 file:min-h-10 file:cursor-pointer file:rounded-xl file:border file:border-line file:bg-card file:px-3 file:text-ink focus-visible:outline-2 focus-visible:outline-accent"
        />
      </label>
    </div>
  );
}
