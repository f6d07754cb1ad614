/** Who may sign in. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { UserPlus, Users } from 'lucide-react';
import { type FormEvent, type ReactNode, useState } from 'react';
import { sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { usersQuery } from '../api/queries';
import type { Me, User } from '../api/types';
import { Button } from '../components/Button';
import { PageHeader } from '../components/Card';
import { Confirm } from '../components/Confirm';
import { Dialog } from '../components/Dialog';
import { ErrorNote } from '../components/ErrorNote';
import { Field, Select } from '../components/Field';
import { NewPassword } from '../components/NewPassword';
import { PasswordForm } from '../components/PasswordForm';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { serverNow } from '../lib/clock';
import { formatClock } from '../lib/format';
import { type Action, useAction } from '../lib/useAction';
import { useTitle } from '../lib/useTitle';

type Open = { kind: 'add' | 'own' } | { kind: 'reset' | 'remove'; username: string };

export default function People({ me }: { me: Me }) {
  useTitle(t.people.title);
  const queries = useQueryClient();
  const users = useQuery(usersQuery);
  const [open, setOpen] = useState<Open>();
  const close = () => setOpen(undefined);
  const reload = () => void queries.invalidateQueries({ queryKey: usersQuery.queryKey });
  const remove = async (username: string) => {
    await sdk.deleteUser({ path: { username } });
    reload();
  };
  return (
    <>
      <PageHeader title={t.people.title} text={t.people.text}>
        <Button onClick={() => setOpen({ kind: 'add' })}>
          <UserPlus aria-hidden className="size-4" />
          {t.people.add}
        </Button>
      </PageHeader>
      <Loaded query={users} rows={3}>
        {(all) =>
          all.length === 0 ? (
            <Empty icon={<Users aria-hidden className="size-7" />} title={t.people.empty} text={t.people.text} />
          ) : (
            <ul className="divide-y divide-line rounded-2xl border border-line bg-card shadow-card">
              {all.map((user) => (
                <Person key={user.username} user={user} me={me} onOpen={setOpen} />
              ))}
            </ul>
          )
        }
      </Loaded>
      {open?.kind === 'add' && <Add onSaved={reload} onClose={close} />}
      {open?.kind === 'own' && (
        <Dialog title={t.auth.change} onClose={close}>
          <PasswordForm />
        </Dialog>
      )}
      {open?.kind === 'reset' && <Reset username={open.username} onSaved={reload} onClose={close} />}
      {open?.kind === 'remove' && (
        <Confirm
          title={t.people.removeTitle(open.username)}
          text={t.people.removeText}
          confirm={t.people.remove}
          act={() => remove(open.username)}
          onClose={close}
        />
      )}
    </>
  );
}

function Person({ user, me, onOpen }: { user: User; me: Me; onOpen: (open: Open) => void }) {
  const mine = user.username === me.username;
  const locked = user.locked_until && Date.parse(user.locked_until) > serverNow() ? user.locked_until : undefined;
  const notes = [
    t.people.roles[user.role],
    mine && t.people.you,
    user.must_change_password && t.people.mustChange,
    locked && t.people.locked(formatClock(Date.parse(locked))),
  ].filter(Boolean);
  return (
    <li className="flex flex-wrap items-center justify-between gap-x-6 gap-y-2 px-5 py-4">
      <div className="min-w-0">
        <p className="break-words font-medium">{user.username}</p>
        <p className="text-muted text-sm">{notes.join(' · ')}</p>
      </div>
      {mine ? (
        <Button onClick={() => onOpen({ kind: 'own' })}>{t.auth.change}</Button>
      ) : (
        <div className="flex gap-2">
          <Button
            aria-label={`${t.people.reset}: ${user.username}`}
            onClick={() => onOpen({ kind: 'reset', username: user.username })}
          >
            {t.people.reset}
          </Button>
          <Button
            kind="warning"
            aria-label={`${t.people.remove}: ${user.username}`}
            onClick={() => onOpen({ kind: 'remove', username: user.username })}
          >
            {t.people.remove}
          </Button>
        </div>
      )}
    </li>
  );
}

interface DialogProps {
  onSaved: () => void;
  onClose: () => void;
}

function Add({ onSaved, onClose }: DialogProps) {
  const action = useAction();
  const [username, setUsername] = useState('');
  const [role, setRole] = useState('peer');
  const [password, setPassword] = useState('');
  const save = async () => {
    await sdk.createUser({ body: { username: username.trim(), role, password } });
    onSaved();
  };
  return (
    <FormDialog
      title={t.people.add}
      action={action}
      fields={['username', 'role', 'password']}
      act={save}
      onClose={onClose}
    >
      {(errors) => (
        <>
          <Field
            label={t.people.name}
            value={username}
            onChange={(event) => setUsername(event.target.value)}
            error={errors.username}
            maxLength={64}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
            required
            autoFocus
          />
          <Select
            label={t.people.role}
            options={Object.entries(t.people.roles).reverse()}
            value={role}
            onChange={(event) => setRole(event.target.value)}
            error={errors.role}
          />
          <NewPassword
            label={t.people.password}
            help={t.people.passwordHelp}
            value={password}
            onChange={setPassword}
            error={errors.password}
          />
        </>
      )}
    </FormDialog>
  );
}

function Reset({ username, onSaved, onClose }: DialogProps & { username: string }) {
  const action = useAction();
  const [password, setPassword] = useState('');
  const save = async () => {
    await sdk.resetPassword({ body: { username, new_password: password } });
    onSaved();
  };
  return (
    <FormDialog
      title={t.people.resetTitle(username)}
      action={action}
      fields={['new_password']}
      act={save}
      onClose={onClose}
    >
      {(errors) => (
        <NewPassword
          label={t.auth.next}
          autoFocus
          help={t.people.resetHelp}
          value={password}
          onChange={setPassword}
          error={errors.new_password}
        />
      )}
    </FormDialog>
  );
}

interface FormDialogProps {
  title: string;
  action: Action;
  fields: readonly string[];
  act: () => Promise<void>;
  onClose: () => void;
  children: (errors: Record<string, string>) => ReactNode;
}

function FormDialog({ title, action, fields, act, onClose, children }: FormDialogProps) {
  const onSubmit = async (event: FormEvent) => {
    event.preventDefault();
    if (await action.run(act)) onClose();
  };
  return (
    <Dialog title={title} onClose={onClose}>
      <form onSubmit={(event) => void onSubmit(event)} className="flex flex-col gap-5">
        <ErrorNote error={action.error} fields={fields} />
        {children(splitViolations(action.error, fields).byField)}
        <div className="flex justify-end gap-2">
          <Button onClick={onClose}>{t.app.cancel}</Button>
          <Button kind="primary" type="submit" pending={action.pending}>
            {action.pending ? t.app.saving : t.app.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
