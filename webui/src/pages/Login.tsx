import { useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, forgetCsrfToken, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { setSession } from '../api/queries';
import { Button } from '../components/Button';
import { Disclosure } from '../components/Disclosure';
import { ErrorNote } from '../components/ErrorNote';
import { Field, PasswordField } from '../components/Field';
import { Plain } from '../components/Plain';
import { t } from '../i18n';
import { formatCountdown } from '../lib/format';
import { useAction } from '../lib/useAction';
import { useCountdown } from '../lib/useCountdown';
import { useTitle } from '../lib/useTitle';

const FIELDS = ['username', 'password'];

/** The address stays as it is, so that whoever signs in again is where they were. */
export function Login({ ended }: { ended: boolean }) {
  useTitle(t.auth.title);
  const queries = useQueryClient();
  const action = useAction();
  const [username, setUsername] = useState('');
  const [password, setPassword] = useState('');
  const wait = useCountdown(action.error?.status === 429 ? action.error : undefined);
  const submit = async () => {
    const me = await data(sdk.login({ body: { username: username.trim(), password } }));
    forgetCsrfToken();
    queries.removeQueries({ predicate: (query) => query.queryKey[0] !== 'session' });
    setSession(queries, { kind: 'signed-in', me });
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    if (wait === 0) void action.run(submit);
  };
  const { byField } = splitViolations(action.error, FIELDS);
  const locked = action.error?.status === 429;
  return (
    <Plain title={t.auth.title}>
      <form onSubmit={onSubmit} className="flex flex-col gap-5">
        {ended && !action.error && (
          <p role="status" className="rounded-xl bg-warn-soft p-3.5 font-medium text-sm text-warn">
            {t.auth.ended}
          </p>
        )}
        {locked ? <Locked seconds={wait} /> : <ErrorNote error={action.error} fields={FIELDS} />}
        <Field
          label={t.auth.username}
          name="username"
          autoComplete="username"
          autoCapitalize="off"
          spellCheck={false}
          required
          autoFocus
          value={username}
          onChange={(event) => setUsername(event.target.value)}
          error={byField.username}
        />
        <PasswordField
          label={t.auth.password}
          name="password"
          autoComplete="current-password"
          required
          value={password}
          onChange={(event) => setPassword(event.target.value)}
          error={byField.password}
        />
        <Button kind="primary" type="submit" pending={action.pending} disabled={wait > 0}>
          {action.pending ? t.auth.submitting : wait > 0 ? t.errors.tryAgainIn(formatCountdown(wait)) : t.auth.submit}
        </Button>
      </form>
      <div className="mt-5 text-sm">
        <Disclosure quiet summary={t.auth.lost}>
          <p className="text-muted">{t.auth.lostText}</p>
        </Disclosure>
      </div>
    </Plain>
  );
}

/** The countdown is for the eye; a screen reader hears it at the start and at the end. */
function Locked({ seconds }: { seconds: number }) {
  const over = seconds === 0;
  return (
    <div
      className={`rounded-xl p-3.5 font-medium text-sm ${over ? 'bg-good-soft text-good' : 'bg-warn-soft text-warn'}`}
    >
      <p aria-hidden={!over}>{over ? t.auth.unlocked : t.auth.locked(formatCountdown(seconds))}</p>
      <p role="alert" className="sr-only">
        {over ? t.auth.unlocked : t.auth.lockedShort}
      </p>
    </div>
  );
}
