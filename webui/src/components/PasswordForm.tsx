/** Changing one's own password. */

import { type FormEvent, useState } from 'react';
import { forgetCsrfToken, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';
import { PasswordField } from './Field';
import { NewPassword } from './NewPassword';

const FIELDS = ['current_password', 'new_password'];

export function PasswordForm({ onChanged }: { onChanged?: () => Promise<unknown> }) {
  const action = useAction();
  const [current, setCurrent] = useState('');
  const [next, setNext] = useState('');
  const [changed, setChanged] = useState(false);
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    setChanged(false);
    void action.run(async () => {
      await sdk.changePassword({ body: { current_password: current, new_password: next } });
      forgetCsrfToken();
      setCurrent('');
      setNext('');
      setChanged(true);
      await onChanged?.();
    });
  };
  const { byField } = splitViolations(action.error, FIELDS);
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-5">
      <ErrorNote error={action.error} fields={FIELDS} />
      <PasswordField
        label={t.auth.current}
        name="current_password"
        autoComplete="current-password"
        required
        value={current}
        onChange={(event) => setCurrent(event.target.value)}
        error={byField.current_password}
      />
      <NewPassword
        label={t.auth.next}
        name="new_password"
        value={next}
        onChange={setNext}
        error={byField.new_password}
      />
      <Button kind="primary" type="submit" pending={action.pending} className="self-start">
        {action.pending ? t.app.saving : t.auth.change}
      </Button>
      <p role="status" className="text-good text-sm empty:hidden">
        {changed ? t.auth.changed : ''}
      </p>
    </form>
  );
}
