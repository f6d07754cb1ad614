/** Adding a device: one form. The key pair is made here; the cell hears the public half alone. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { configQuery, peersQuery } from '../api/queries';
import type { Access } from '../api/types';
import { t } from '../i18n';
import { withPrivateKey } from '../lib/config';
import { useAction } from '../lib/useAction';
import { isKey, makeKeyPair } from '../lib/wgkeys';
import { AccessEditor, accessFields } from './AccessEditor';
import { Button } from './Button';
import { DeviceReady, type ReadyDevice } from './DeviceReady';
import { EndpointField, suggestedEndpoint } from './EndpointField';
import { ErrorNote } from './ErrorNote';
import { Field } from './Field';
import { type KeyChoice, MoreOptions } from './MoreOptions';
import { Skeleton } from './States';

const NEW_ACCESS: Access = { internet: true, peer_to_peer: false, services: [] };

/** The form, then the code. Unmounting forgets the private key. */
export function AddDevice({ onDone, onReady }: { onDone: () => void; onReady?: (name: string) => void }) {
  const [ready, setReady] = useState<ReadyDevice>();
  const config = useQuery(configQuery);
  if (ready) return <DeviceReady device={ready} onDone={onDone} />;
  if (!config.data && !config.error) return <Skeleton rows={2} onRetry={() => void config.refetch()} />;
  return (
    <AddForm
      endpointHost={config.data?.endpoint_host ?? ''}
      onReady={(device) => {
        setReady(device);
        onReady?.(device.name);
      }}
    />
  );
}

function AddForm({ endpointHost, onReady }: { endpointHost: string; onReady: (device: ReadyDevice) => void }) {
  const queries = useQueryClient();
  const action = useAction();
  const [name, setName] = useState('');
  const [endpoint, setEndpoint] = useState(endpointHost || suggestedEndpoint());
  const [access, setAccess] = useState(NEW_ACCESS);
  const [tunnel, setTunnel] = useState('');
  const [key, setKey] = useState<KeyChoice>({ kind: 'browser' });
  const [badKey, setBadKey] = useState(false);

  const submit = async () => {
    if (!endpointHost) {
      queries.setQueryData(
        configQuery.queryKey,
        await data(sdk.updateConfig({ body: { endpoint_host: endpoint.trim() } })),
      );
    }
    const pair = key.kind === 'browser' ? await makeKeyPair() : undefined;
    const publicKey = pair?.publicKey ?? (key.kind === 'paste' ? key.publicKey : undefined);
    const created = await data(
      sdk.createPeer({
        body: {
          name: name.trim(),
          access,
          ...(publicKey !== undefined && { public_key: publicKey }),
          ...(key.kind === 'server' && { server_makes_key: true }),
          ...(tunnel && { tunnel }),
        },
      }),
    );
    void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
    const text = pair ? withPrivateKey(created.config, pair.privateKey) : created.config;
    onReady({ name: created.peer.name, config: text });
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const bad = key.kind === 'paste' && !isKey(key.publicKey);
    setBadKey(bad);
    if (!bad) void action.run(submit);
  };

  const fields = ['name', 'endpoint_host', 'public_key', 'tunnel', ...accessFields(access)];
  const { byField } = splitViolations(action.error, fields);
  return (
    <form onSubmit={onSubmit} className="flex flex-col gap-5">
      <ErrorNote error={action.error} fields={fields} />
      <Field
        label={t.add.name}
        help={t.add.nameHelp}
        placeholder={t.add.namePlaceholder}
        error={byField.name}
        value={name}
        onChange={(event) => setName(event.target.value)}
        required
        maxLength={64}
        autoFocus
        autoComplete="off"
        autoCapitalize="off"
        spellCheck={false}
        name="name"
      />
      {!endpointHost && (
        <div className="flex flex-col gap-3 rounded-xl bg-warn-soft p-4">
          <p className="text-sm text-warn">{t.add.endpointText}</p>
          <EndpointField value={endpoint} onChange={setEndpoint} error={byField.endpoint_host} required />
        </div>
      )}
      <fieldset>
        <legend className="font-semibold text-sm">{t.add.reachTitle}</legend>
        <AccessEditor access={access} onChange={setAccess} errors={byField} />
      </fieldset>
      <MoreOptions
        choice={key}
        onChoice={(choice) => {
          setKey(choice);
          setBadKey(false);
        }}
        keyError={badKey ? t.add.publicKeyBad : byField.public_key}
        tunnel={tunnel}
        onTunnel={setTunnel}
      />
      {window.location.protocol === 'http:' && !isLoopback(window.location.hostname) && (
        <p className="text-muted text-sm">{t.add.plainHttp}</p>
      )}
      <Button kind="primary" type="submit" pending={action.pending} className="w-full">
        {action.pending ? t.add.creating : t.add.create}
      </Button>
    </form>
  );
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host.startsWith('127.') || host === '[::1]';
}
