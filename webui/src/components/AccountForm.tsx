/** Makes accounts of one device, here and in other services at once, and shows their passwords this once. */

import { useQuery } from '@tanstack/react-query';
import { type FormEvent, useId, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { peersQuery, servicesQuery } from '../api/queries';
import type { AccountCredential, Service } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { CredentialsOnce } from './CredentialsOnce';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { Field } from './Field';

const FIELDS = ['peer', 'user'];

interface Props {
  service: Service;
  onMade: () => void;
  onClose: () => void;
}

export function AccountForm({ service, onMade, onClose }: Props) {
  const action = useAction();
  const [peer, setPeer] = useState('');
  const [user, setUser] = useState('');
  const [also, setAlso] = useState<ReadonlySet<string>>(new Set());
  const [made, setMade] = useState<AccountCredential[]>();
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const body = { peer: peer.trim(), services: [service.name, ...also], ...(user && { user }) };
      setMade((await data(sdk.createAccounts({ body }))).credentials);
      onMade();
    });
  };
  const { byField } = splitViolations(action.error, FIELDS);
  return (
    <Dialog title={made ? s.accounts.onceTitle : s.accounts.addTitle(service.title)} onClose={onClose}>
      {made ? (
        <CredentialsOnce credentials={made} onDone={onClose} />
      ) : (
        <form onSubmit={submit} className="flex flex-col gap-5">
          <ErrorNote error={action.error} fields={FIELDS} />
          <DeviceField value={peer} onChange={setPeer} error={byField.peer} />
          <Field
            label={s.accounts.user}
            name="user"
            help={s.accounts.userHelp}
            value={user}
            onChange={(event) => setUser(event.target.value.trim())}
            error={byField.user}
            autoCapitalize="off"
            autoComplete="off"
            spellCheck={false}
          />
          <Others service={service} chosen={also} onChange={setAlso} />
          <Button kind="primary" type="submit" pending={action.pending} className="self-end">
            {action.pending ? t.app.saving : s.accounts.make}
          </Button>
        </form>
      )}
    </Dialog>
  );
}

/** Typed with suggestions: there may be thousands. */
function DeviceField(props: { value: string; onChange: (value: string) => void; error: string | undefined }) {
  const id = useId();
  const peers = useQuery(peersQuery).data ?? [];
  return (
    <>
      <Field
        label={s.accounts.device}
        name="peer"
        list={id}
        value={props.value}
        onChange={(event) => props.onChange(event.target.value)}
        error={props.error}
        autoCapitalize="off"
        autoComplete="off"
        spellCheck={false}
        autoFocus
        required
      />
      <datalist id={id}>
        {peers.slice(0, 500).map((peer) => (
          <option key={peer.name} value={peer.name} />
        ))}
      </datalist>
    </>
  );
}

interface OthersProps {
  service: Service;
  chosen: ReadonlySet<string>;
  onChange: (chosen: ReadonlySet<string>) => void;
}

/** Other services that have accounts. */
function Others({ service, chosen, onChange }: OthersProps) {
  const id = useId();
  const installed = useQuery(servicesQuery).data ?? [];
  const others = installed.filter(
    (one) => one.name !== service.name && one.has_accounts && one.phase === 'installed' && !one.stopped,
  );
  if (others.length === 0) return null;
  const toggle = (name: string, on: boolean) => {
    const next = new Set(chosen);
    if (on) next.add(name);
    else next.delete(name);
    onChange(next);
  };
  return (
    <fieldset className="flex flex-col gap-1">
      <legend className="mb-1 font-medium text-sm">{s.accounts.also}</legend>
      {others.map((one) => (
        <div key={one.name} className="flex min-h-11 items-center gap-3 md:min-h-8">
          <input
            id={`${id}-${one.name}`}
            type="checkbox"
            checked={chosen.has(one.name)}
            onChange={(event) => toggle(one.name, event.target.checked)}
            className="size-5 cursor-pointer accent-accent"
          />
          <label htmlFor={`${id}-${one.name}`} className="cursor-pointer">
            {one.title}
          </label>
        </div>
      ))}
    </fieldset>
  );
}
