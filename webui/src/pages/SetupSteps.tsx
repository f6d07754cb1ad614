/** The wizard's four forms. Each shows what was answered before, and the cell's complaints at their fields. */

import { useQuery } from '@tanstack/react-query';
import { type FormEvent, type ReactNode, useState } from 'react';
import { claimHeader, data, sdk, setClaimToken } from '../api/client';
import { splitViolations } from '../api/error';
import type { SetupStatus } from '../api/types';
import { Button } from '../components/Button';
import { EndpointInput, suggestedEndpoint } from '../components/EndpointField';
import { ErrorNote } from '../components/ErrorNote';
import { Field } from '../components/Field';
import { NewPassword } from '../components/NewPassword';
import { Loaded } from '../components/States';
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

interface StoredProps {
  /** What the step was answered with before; empty when never. */
  stored: Record<string, string>;
  onAnswered: OnAnswered;
}

export function IdentityStep({ stored, onAnswered }: StoredProps) {
  const action = useAction();
  const [name, setName] = useState(stored.cell_name ?? 'home');
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

export function NetworkStep({ stored, onAnswered }: StoredProps) {
  const action = useAction();
  const [v4, setV4] = useState(stored.vpn_range_ipv4 ?? DEFAULT_RANGE);
  const [v6, setV6] = useState(stored.vpn_range_ipv6 ?? '');
  const [endpoint, setEndpoint] = useState(() => stored.endpoint_host ?? suggestedEndpoint());
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

/** Waits for what the step was answered with before; a form must not change under the hand that fills it. */
export function Stored({ step, children }: { step: string; children: (stored: Record<string, string>) => ReactNode }) {
  const answer = useQuery({
    queryKey: ['setup', 'step', step],
    queryFn: () => data(sdk.getSetupStep({ path: { step }, headers: claimHeader() })),
    gcTime: 0,
  });
  return <Loaded query={answer}>{({ values }) => children(values)}</Loaded>;
}
