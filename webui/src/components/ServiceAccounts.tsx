/** Accounts of a service: made for a device, given a new password, removed with their data. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Plus } from 'lucide-react';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import { accountsQuery } from '../api/queries';
import type { Account, AccountCredential, Service } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { formatDay } from '../lib/format';
import { ONLY_ASK } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { AccountForm } from './AccountForm';
import { Button } from './Button';
import { Confirm } from './Confirm';
import { CredentialsOnce } from './CredentialsOnce';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { Sentences } from './Sentences';
import { Loaded } from './States';

type Open = { kind: 'add' } | { kind: 'reset' | 'remove'; user: string };

export function ServiceAccounts({ service }: { service: Service }) {
  const queries = useQueryClient();
  const accounts = useQuery(accountsQuery(service.name));
  const [open, setOpen] = useState<Open>();
  const close = () => setOpen(undefined);
  const reload = () => void queries.invalidateQueries({ queryKey: accountsQuery(service.name).queryKey });
  return (
    <div className="flex flex-col gap-4">
      <p className="text-muted text-sm">{s.accounts.text}</p>
      <Loaded query={accounts} rows={2}>
        {(all) => (
          <>
            {all.length === 0 ? <p className="font-medium">{s.accounts.none}</p> : <List all={all} onOpen={setOpen} />}
            <Button className="self-start" onClick={() => setOpen({ kind: 'add' })}>
              <Plus aria-hidden className="size-4" />
              {s.accounts.add}
            </Button>
          </>
        )}
      </Loaded>
      {open?.kind === 'add' && <AccountForm service={service} onMade={reload} onClose={close} />}
      {open?.kind === 'reset' && <Reset service={service} user={open.user} onClose={close} />}
      {open?.kind === 'remove' && <Remove service={service} user={open.user} onRemoved={reload} onClose={close} />}
    </div>
  );
}

function List({ all, onOpen }: { all: readonly Account[]; onOpen: (open: Open) => void }) {
  return (
    <ul aria-label={s.accounts.list} className="divide-y divide-line">
      {all.map(({ user, peer, created_at }) => (
        <li key={user} className="flex flex-wrap items-center justify-between gap-x-4 gap-y-2 py-3">
          <div className="min-w-0">
            <p className="break-words font-medium">{user}</p>
            <p className="break-words text-muted text-sm">
              {[peer ? s.accounts.forDevice(peer) : s.accounts.gone, s.accounts.since(formatDay(created_at))].join(
                ' · ',
              )}
            </p>
          </div>
          <div className="flex flex-wrap gap-2">
            <Button aria-label={`${s.accounts.reset}: ${user}`} onClick={() => onOpen({ kind: 'reset', user })}>
              {s.accounts.reset}
            </Button>
            <Button
              kind="warning"
              aria-label={`${s.accounts.remove}: ${user}`}
              onClick={() => onOpen({ kind: 'remove', user })}
            >
              {s.accounts.remove}
            </Button>
          </div>
        </li>
      ))}
    </ul>
  );
}

interface RemoveProps {
  service: Service;
  user: string;
  onRemoved: () => void;
  onClose: () => void;
}

function Remove({ service, user, onRemoved, onClose }: RemoveProps) {
  const path = { service: service.name, user };
  // The cell's own words, where it has them; a person may go on without.
  const plan = useQuery({
    queryKey: ['plan', 'remove-account', service.name, user],
    queryFn: async () => (await data(sdk.removeAccount({ path, query: ONLY_ASK })))?.plan,
    gcTime: 0,
    retry: false,
  }).data;
  return (
    <Confirm
      title={s.accounts.removeTitle(user)}
      text={
        <>
          <p>{s.accounts.removeText(user, service.title)}</p>
          {plan && <Sentences of={plan} />}
        </>
      }
      confirm={s.accounts.removeConfirm}
      act={async () => {
        await sdk.removeAccount({ path });
        onRemoved();
      }}
      onClose={onClose}
    />
  );
}

function Reset({ service, user, onClose }: { service: Service; user: string; onClose: () => void }) {
  const action = useAction();
  const [made, setMade] = useState<AccountCredential>();
  const path = { service: service.name, user };
  const reset = () => action.run(async () => setMade(await data(sdk.resetAccountPassword({ path }))));
  return (
    <Dialog title={made ? s.accounts.onceTitle : s.accounts.resetTitle(user)} onClose={onClose}>
      {made ? (
        <CredentialsOnce credentials={[made]} onDone={onClose} />
      ) : (
        <div className="flex flex-col gap-5">
          <p>{s.accounts.resetText}</p>
          <ErrorNote error={action.error} />
          <div className="flex flex-wrap justify-end gap-2">
            <Button autoFocus onClick={onClose}>
              {t.app.cancel}
            </Button>
            <Button kind="primary" pending={action.pending} onClick={() => void reset()}>
              {s.accounts.resetMake}
            </Button>
          </div>
        </div>
      )}
    </Dialog>
  );
}
