/** The secrets of a service: which there are, and whether they are set. A value goes in, and is never shown. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { asApiError, splitViolations } from '../api/error';
import { serviceQuery, serviceSecretsQuery } from '../api/queries';
import type { Service, ServiceSecret } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Card } from './Card';
import { Confirm } from './Confirm';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { PasswordField } from './Field';

/** Nothing for a service without secrets, as for most. */
export function ServiceSecrets({ service }: { service: Service }) {
  const secrets = useQuery(serviceSecretsQuery(service.name));
  const all = secrets.data ?? [];
  if (all.length === 0 && !secrets.error) return null;
  return (
    <Card title={s.secrets.title}>
      <p className="mb-3 text-muted text-sm">{s.secrets.text}</p>
      <ErrorNote error={secrets.error ? asApiError(secrets.error) : undefined} />
      <ul className="flex flex-col gap-4">
        {all.map((one) => (
          <Secret key={one.name} service={service} secret={one} />
        ))}
      </ul>
    </Card>
  );
}

function Secret({ service, secret }: { service: Service; secret: ServiceSecret }) {
  const queries = useQueryClient();
  const [asked, setAsked] = useState<'set' | 'remove'>();
  const close = () => setAsked(undefined);
  const path = { service: service.name, secret: secret.name };
  const changed = async (now: Service) => {
    queries.setQueryData(serviceQuery(service.name).queryKey, now);
    await queries.invalidateQueries({ queryKey: serviceSecretsQuery(service.name).queryKey });
  };
  const state = secret.is_set ? s.secrets.isSet : secret.optional ? s.secrets.notSetOptional : s.secrets.notSet;
  return (
    <li aria-label={secret.label} className="flex flex-wrap items-center justify-between gap-3">
      <div className="min-w-0">
        <p className="break-words font-medium">{secret.label}</p>
        <p className="text-muted text-sm">{secret.generated ? `${state} ${s.secrets.generated}` : state}</p>
      </div>
      {secret.can_be_set && (
        <div className="flex gap-2">
          <Button aria-label={s.secrets.setOf(secret.label, secret.is_set)} onClick={() => setAsked('set')}>
            {secret.is_set ? s.secrets.replace : s.secrets.set}
          </Button>
          {secret.is_set && (
            <Button kind="quiet" aria-label={s.secrets.removeOf(secret.label)} onClick={() => setAsked('remove')}>
              {s.secrets.remove}
            </Button>
          )}
        </div>
      )}
      {asked === 'set' && (
        <SetSecret
          secret={secret}
          save={async (value) => changed(await data(sdk.setServiceSecret({ path, body: { value } })))}
          onClose={close}
        />
      )}
      {asked === 'remove' && (
        <Confirm
          title={s.secrets.removeTitle(secret.label)}
          text={secret.optional ? s.secrets.removeOptional : s.secrets.removeText(service.title)}
          confirm={s.secrets.remove}
          act={async () => changed(await data(sdk.removeServiceSecret({ path })))}
          onClose={close}
        />
      )}
    </li>
  );
}

interface SetProps {
  secret: ServiceSecret;
  save: (value: string) => Promise<void>;
  onClose: () => void;
}

/** The value lives here alone, until the dialog closes. */
function SetSecret({ secret, save, onClose }: SetProps) {
  const action = useAction();
  const [value, setValue] = useState('');
  const submit = async (event: FormEvent) => {
    event.preventDefault();
    if (await action.run(() => save(value))) onClose();
  };
  const { byField } = splitViolations(action.error, ['value']);
  return (
    <Dialog title={s.secrets.setOf(secret.label, secret.is_set)} onClose={onClose}>
      <form onSubmit={(event) => void submit(event)} className="flex flex-col gap-5">
        <p>{s.secrets.setText}</p>
        <ErrorNote error={action.error} fields={['value']} />
        <PasswordField
          label={secret.label}
          name="value"
          autoComplete="off"
          value={value}
          onChange={(event) => setValue(event.target.value)}
          {...(byField.value && { error: byField.value })}
          required
        />
        <div className="flex flex-wrap justify-end gap-2">
          <Button onClick={onClose}>{t.app.cancel}</Button>
          <Button kind="primary" type="submit" pending={action.pending}>
            {s.secrets.save}
          </Button>
        </div>
      </form>
    </Dialog>
  );
}
