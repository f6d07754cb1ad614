/** The wizard's four forms. Each shows what was answered before, and the cell's complaints at their fields. */

import { useQuery } from '@tanstack/react-query';
import { type FormEvent, type ReactNode, useEffect, useState } from 'react';
import { claimHeader, data, sdk, setClaimToken } from '../api/client';
import { splitViolations } from '../api/error';
import type { SetupStatus } from '../api/types';
import { Button } from '../components/Button';
import { EndpointInput, suggestedEndpoint } from '../components/EndpointField';
import { ErrorNote } from '../components/ErrorNote';
import { Field } from '../components/Field';
import { NewPassword } from '../components/NewPassword';
import { t } from '../i18n';
import { type Action, useAction } from '../lib/useAction';

type OnAnswered = (status: SetupStatus) => void;

const DEFAULT_RANGE = '10.86.0.0/24';

export function ClaimStep({ again, onAnswered }: { again: boolean; onAnswered: OnAnswered }) {
  const action = useAction();
  const [token, setToken] = useState('');
  const submit = async () => {
    const claim_token = token.trim();
    const status = await data(sdk.submitClaimStep({ body: { claim_token } }));
    setClaimToken(claim_token);
    onAnswered(status);
  };
  return (
    <StepForm action={action} fields={['claim_token']} submit={submit}>
      {(errors) => (
        <>
          {again && <p className="rounded-xl bg-warn-soft p-3.5 text-sm text-warn">{t.setup.claim.again}</p>}
          <Field
            label={t.setup.claim.label}
            help={t.setup.claim.help}
            name="claim_token"
            value={token}
            onChange={(event) => setToken(event.target.value)}
            error={errors.claim_token}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
            maxLength={256}
            required
            autoFocus
            mono
          />
        </>
      )}
    </StepForm>
  );
}

export function IdentityStep({ onAnswered }: { onAnswered: OnAnswered }) {
  const action = useAction();
  const stored = useStored('identity');
  const [name, setName] = useState('home');
  useEffect(() => {
    if (stored?.cell_name) setName(stored.cell_name);
  }, [stored]);
  const submit = async () =>
    onAnswered(
      await data(
        sdk.submitIdentityStep({ headers: claimHeader(), body: { cell_name: name.trim(), domain_mode: 'lan' } }),
      ),
    );
  return (
    <StepForm action={action} fields={['cell_name']} submit={submit}>
      {(errors) => (
        <>
          <Field
            label={t.setup.identity.label}
            help={t.setup.identity.help}
            name="cell_name"
            value={name}
            onChange={(event) => setName(event.target.value.toLowerCase())}
            error={errors.cell_name}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
            maxLength={63}
            required
            autoFocus
          />
          {name && <p className="text-sm">{t.setup.identity.domain(name)}</p>}
          <p className="text-muted text-sm">{t.setup.identity.lan}</p>
        </>
      )}
    </StepForm>
  );
}

export function NetworkStep({ onAnswered }: { onAnswered: OnAnswered }) {
  const action = useAction();
  const stored = useStored('network');
  const [v4, setV4] = useState(DEFAULT_RANGE);
  const [v6, setV6] = useState('');
  const [endpoint, setEndpoint] = useState(suggestedEndpoint);
  useEffect(() => {
    if (!stored) return;
    setV4(stored.vpn_range_ipv4 ?? DEFAULT_RANGE);
    setV6(stored.vpn_range_ipv6 ?? '');
    setEndpoint(stored.endpoint_host ?? '');
  }, [stored]);
  const submit = async () => {
    const body = {
      vpn_range_ipv4: v4.trim(),
      ...(v6.trim() && { vpn_range_ipv6: v6.trim() }),
      ...(endpoint.trim() && { endpoint_host: endpoint.trim() }),
    };
    onAnswered(await data(sdk.submitNetworkStep({ body, headers: claimHeader() })));
  };
  return (
    <StepForm action={action} fields={['vpn_range_ipv4', 'vpn_range_ipv6', 'endpoint_host']} submit={submit}>
      {(errors) => (
        <>
          <Field
            label={t.setup.network.v4}
            help={t.setup.network.v4Help}
            name="vpn_range_ipv4"
            value={v4}
            onChange={(event) => setV4(event.target.value)}
            error={errors.vpn_range_ipv4}
            autoComplete="off"
            required
            autoFocus
            mono
          />
          <Field
            label={t.setup.network.v6}
            optional
            help={t.setup.network.v6Help}
            name="vpn_range_ipv6"
            value={v6}
            onChange={(event) => setV6(event.target.value)}
            error={errors.vpn_range_ipv6}
            autoComplete="off"
            mono
          />
          <EndpointInput
            optional
            help={t.setup.network.endpointHelp}
            value={endpoint}
            onChange={setEndpoint}
            error={errors.endpoint_host}
          />
        </>
      )}
    </StepForm>
  );
}

interface AdminProps {
  onAnswered: OnAnswered;
  onFinish: (username: string, password: string) => Promise<void>;
}

export function AdminStep({ onAnswered, onFinish }: AdminProps) {
  const action = useAction();
  const [username, setUsername] = useState('admin');
  const [password, setPassword] = useState('');
  const submit = async () => {
    const body = { username: username.trim(), password };
    onAnswered(await data(sdk.submitAdminStep({ body, headers: claimHeader() })));
    await onFinish(body.username, password);
  };
  return (
    <StepForm action={action} fields={['username', 'password']} submit={submit} label={t.setup.admin.finish}>
      {(errors) => (
        <>
          <Field
            label={t.setup.admin.username}
            name="username"
            value={username}
            onChange={(event) => setUsername(event.target.value)}
            error={errors.username}
            autoComplete="username"
            autoCapitalize="off"
            spellCheck={false}
            maxLength={64}
            required
            autoFocus
          />
          <NewPassword label={t.auth.password} value={password} onChange={setPassword} error={errors.password} />
        </>
      )}
    </StepForm>
  );
}

interface StepFormProps {
  action: Action;
  fields: readonly string[];
  submit: () => Promise<void>;
  label?: string;
  children: (errors: Record<string, string>) => ReactNode;
}

function StepForm({ action, fields, submit, label = t.setup.next, children }: StepFormProps) {
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(submit);
  };
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-5">
      <ErrorNote error={action.error} fields={fields} />
      {children(splitViolations(action.error, fields).byField)}
      <Button kind="primary" type="submit" pending={action.pending} className="w-full">
        {action.pending ? t.setup.working : label}
      </Button>
    </form>
  );
}

/** What the step was answered with before, once; `undefined` until known or when never. */
function useStored(step: string): Record<string, string> | undefined {
  const answer = useQuery({
    queryKey: ['setup', 'step', step],
    queryFn: () => data(sdk.getSetupStep({ path: { step }, headers: claimHeader() })),
    gcTime: 0,
  });
  return answer.data?.answered ? answer.data.values : undefined;
}
