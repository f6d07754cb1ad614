/** Under which domain services are found: the cell's own alone, or a public one as well. */

import { useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { domainQuery } from '../api/queries';
import type { Domain } from '../api/types';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Choice } from './Choice';
import { ErrorNote } from './ErrorNote';
import { Field, PasswordField, Select } from './Field';

const TEXTS = ['domain', 'email', 'server', 'tsig_name', 'acme_directory'] as const;
const FIELDS = [...TEXTS, 'provider', 'token'];

export function DomainForm({ stored }: { stored: Domain }) {
  const queries = useQueryClient();
  const action = useAction();
  const [mode, setMode] = useState(stored.mode);
  const [provider, setProvider] = useState(stored.provider ?? 'duckdns');
  const [texts, setTexts] = useState(() => Object.fromEntries(TEXTS.map((name) => [name, stored[name] ?? ''])));
  const [token, setToken] = useState('');
  const [saved, setSaved] = useState(false);
  const w = t.settings.publicDomain;
  const isPublic = mode !== 'lan';
  const isByDns = mode === 'dns01';
  const isGeneric = isByDns && provider === 'generic';
  const edit = (change: () => void) => {
    change();
    setSaved(false);
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const given = (name: (typeof TEXTS)[number]) => texts[name]?.trim() || null;
      const generic = (text: string | null | undefined) => (isGeneric ? (text ?? null) : null);
      const directory = given('acme_directory');
      const body = isPublic
        ? {
            mode,
            domain: given('domain'),
            email: given('email'),
            provider: isByDns ? provider : null,
            server: generic(given('server')),
            tsig_name: generic(given('tsig_name')),
            tsig_algorithm: generic(stored.tsig_algorithm),
            acme_directory: directory,
            // It is given by cellctl, and belongs to the directory that it was given with.
            acme_authority: directory && directory === stored.acme_directory ? (stored.acme_authority ?? null) : null,
            token: (isByDns && token) || null,
          }
        : { mode };
      const domain = await data(sdk.setDomain({ body }));
      queries.setQueryData(domainQuery.queryKey, domain);
      setToken('');
      setSaved(true);
    });
  };
  const { byField } = splitViolations(action.error, FIELDS);
  const field = (name: (typeof TEXTS)[number], optional = false) => (
    <Field
      label={w.fields[name]?.[0] ?? name}
      help={w.fields[name]?.[1]}
      error={byField[name]}
      optional={optional}
      value={texts[name] ?? ''}
      onChange={(event) => {
        const { value } = event.target;
        edit(() => setTexts((before) => ({ ...before, [name]: value })));
      }}
      name={name}
      autoComplete="off"
      spellCheck={false}
      maxLength={512}
    />
  );
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-4">
      <ErrorNote error={action.error} fields={FIELDS} />
      <fieldset>
        <legend className="sr-only">{w.title}</legend>
        {(['lan', 'dns01', 'http01'] as const).map((one) => (
          <Choice
            key={one}
            name="mode"
            label={w.modes[one][0]}
            text={w.modes[one][1]}
            checked={mode === one}
            onSelect={() => edit(() => setMode(one))}
          />
        ))}
      </fieldset>
      {isPublic && (
        <>
          {field('domain')}
          {isByDns && (
            <Select
              label={w.provider}
              help={undefined}
              error={byField.provider}
              options={w.providers}
              value={provider}
              onChange={(event) => edit(() => setProvider(event.target.value))}
              name="provider"
            />
          )}
          {isGeneric && field('server')}
          {isGeneric && field('tsig_name')}
          {isByDns && (
            <PasswordField
              label={isGeneric ? w.secret : w.token}
              help={stored.token_is_set && provider === stored.provider ? w.tokenThere : w.tokenHelp}
              error={byField.token}
              value={token}
              onChange={(event) => edit(() => setToken(event.target.value))}
              name="token"
              autoComplete="off"
            />
          )}
          {field('email', true)}
          {field('acme_directory', true)}
        </>
      )}
      <Button kind="primary" type="submit" pending={action.pending} className="self-start">
        {action.pending ? t.app.saving : t.app.save}
      </Button>
      <p role="status" className="text-good text-sm empty:hidden">
        {saved ? (isPublic ? w.saved : w.savedLan) : ''}
      </p>
    </form>
  );
}
