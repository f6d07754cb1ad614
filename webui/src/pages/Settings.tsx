/** How the cell is reached, what it is, its certificate, one's own password. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Download } from 'lucide-react';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { configQuery, domainQuery, wireguardQuery } from '../api/queries';
import type { Config } from '../api/types';
import { Button, buttonClass } from '../components/Button';
import { Card, Facts, PageHeader } from '../components/Card';
import { Disclosure } from '../components/Disclosure';
import { DomainForm } from '../components/DomainForm';
import { EndpointField } from '../components/EndpointField';
import { ErrorNote } from '../components/ErrorNote';
import { Field } from '../components/Field';
import { PasswordForm } from '../components/PasswordForm';
import { QueryLog } from '../components/QueryLog';
import { Loaded } from '../components/States';
import { ThemeSwitch } from '../components/ThemeSwitch';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { useTitle } from '../lib/useTitle';

const FIELDS = ['endpoint_host'];

export default function Settings() {
  useTitle(t.settings.title);
  const config = useQuery(configQuery);
  const domain = useQuery(domainQuery);
  return (
    <>
      <PageHeader title={t.settings.title} />
      <div className="grid items-start gap-5 lg:grid-cols-2">
        <Loaded query={config}>
          {(stored) => (
            <div className="flex flex-col gap-5">
              <Card title={t.settings.reach}>
                <Endpoint stored={stored.endpoint_host ?? ''} />
              </Card>
              <Card title={t.settings.resolvers}>
                <Resolvers stored={stored.dns_upstreams} />
              </Card>
              <Card title={t.settings.queryLog}>
                <QueryLog />
              </Card>
              <Identity config={stored} />
            </div>
          )}
        </Loaded>
        <div className="flex flex-col gap-5">
          <Card title={t.settings.publicDomain.title}>
            <Loaded query={domain}>{(stored) => <DomainForm stored={stored} />}</Loaded>
          </Card>
          <Certificate />
          <Card title={t.auth.change}>
            <PasswordForm />
          </Card>
          <Card title={t.settings.appearance}>
            <div className="max-w-sm">
              <ThemeSwitch labelled />
            </div>
          </Card>
        </div>
      </div>
    </>
  );
}

function Endpoint({ stored }: { stored: string }) {
  const queries = useQueryClient();
  const action = useAction();
  const [value, setValue] = useState(stored);
  const [saved, setSaved] = useState(false);
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const config = await data(sdk.updateConfig({ body: { endpoint_host: value.trim() } }));
      queries.setQueryData(configQuery.queryKey, config);
      setSaved(true);
    });
  };
  const { byField } = splitViolations(action.error, FIELDS);
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-4">
      {!stored && <p className="rounded-xl bg-warn-soft p-3.5 text-sm text-warn">{t.settings.endpointMissing}</p>}
      <ErrorNote error={action.error} fields={FIELDS} />
      <EndpointField
        value={value}
        onChange={(next) => {
          setValue(next);
          setSaved(false);
        }}
        error={byField.endpoint_host}
        required
      />
      <Button
        kind="primary"
        type="submit"
        pending={action.pending}
        disabled={value.trim() === stored}
        className="self-start"
      >
        {action.pending ? t.app.saving : t.app.save}
      </Button>
      <p role="status" className="text-good text-sm empty:hidden">
        {saved ? t.settings.endpointChanged : ''}
      </p>
    </form>
  );
}

function Resolvers({ stored }: { stored: string[] }) {
  const queries = useQueryClient();
  const action = useAction();
  const [value, setValue] = useState(stored.join(' '));
  const [saved, setSaved] = useState(false);
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const dns_upstreams = value.split(/[\s,]+/).filter(Boolean);
      const config = await data(sdk.updateConfig({ body: { dns_upstreams } }));
      queries.setQueryData(configQuery.queryKey, config);
      setValue(config.dns_upstreams.join(' '));
      setSaved(true);
    });
  };
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-4">
      <ErrorNote error={action.error} />
      <Field
        label={t.settings.resolversLabel}
        help={t.settings.resolversHelp}
        error={undefined}
        value={value}
        onChange={(event) => {
          setValue(event.target.value);
          setSaved(false);
        }}
        name="dns_upstreams"
        autoComplete="off"
        spellCheck={false}
        maxLength={500}
      />
      <Button
        kind="primary"
        type="submit"
        pending={action.pending}
        disabled={value.trim() === stored.join(' ')}
        className="self-start"
      >
        {action.pending ? t.app.saving : t.app.save}
      </Button>
      <p role="status" className="text-good text-sm empty:hidden">
        {saved ? t.settings.resolversChanged : ''}
      </p>
    </form>
  );
}

function Identity({ config }: { config: Config }) {
  const wireguard = useQuery(wireguardQuery);
  const mono = (text: string) => <span className="break-all font-mono text-sm">{text}</span>;
  const backend = wireguard.data?.backend;
  return (
    <Card title={t.settings.identity}>
      <Facts
        facts={[
          [t.settings.cellName, config.cell_name],
          [t.settings.domain, mono(config.domain)],
          [t.settings.range4, mono(config.vpn_range_ipv4)],
          [t.settings.range6, mono(config.vpn_range_ipv6)],
          [t.settings.address4, mono(config.vpn_address_ipv4)],
          [t.settings.address6, mono(config.vpn_address_ipv6)],
          [t.settings.port, mono(`UDP ${config.wireguard_port}`)],
          [t.settings.backend, backend ? (t.settings.backendName[backend] ?? backend) : t.app.unknown],
          [t.settings.publicKey, mono(wireguard.data?.public_key ?? t.app.unknown), true],
        ]}
      />
    </Card>
  );
}

function Certificate() {
  return (
    <Card title={t.settings.certificate}>
      <p className="text-muted text-sm">{t.settings.certificateText}</p>
      <a href="/api/trust/root.pem" download="cell-root.crt" className={buttonClass('secondary', 'mt-4')}>
        <Download aria-hidden className="size-4" />
        {t.settings.download}
      </a>
      <div className="mt-3 text-sm">
        <Disclosure summary={t.settings.howTo}>
          <dl className="flex flex-col gap-3">
            {t.settings.steps.map(([system, steps]) => (
              <div key={system}>
                <dt className="font-medium">{system}</dt>
                <dd className="text-muted">{steps}</dd>
              </div>
            ))}
          </dl>
        </Disclosure>
      </div>
    </Card>
  );
}
