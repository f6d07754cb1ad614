/** What ends a device's present setup: a new key, or its removal. Also its configuration without a key. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { data, sdk } from '../api/client';
import { networkChangeQuery, peerQuery, peersQuery } from '../api/queries';
import type { Peer } from '../api/types';
import { t } from '../i18n';
import { withPrivateKey } from '../lib/config';
import { useSafeChange } from '../lib/ownDevice';
import { paths } from '../lib/paths';
import { ONLY_ASK, planned } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { makeKeyPair } from '../lib/wgkeys';
import { Button } from './Button';
import { Confirm } from './Confirm';
import { DeviceReady, type ReadyDevice } from './DeviceReady';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { Switch } from './Field';
import { PlanList } from './PlanList';

export function DeviceDanger({ peer }: { peer: Peer }) {
  const [open, setOpen] = useState<'new-key' | 'config' | 'remove'>();
  const close = () => setOpen(undefined);
  return (
    <div className="flex flex-wrap gap-2">
      <Button onClick={() => setOpen('new-key')}>{t.device.newKey}</Button>
      <Button onClick={() => setOpen('config')}>{t.device.config}</Button>
      <Button kind="warning" onClick={() => setOpen('remove')}>
        {t.device.remove}
      </Button>
      {open === 'new-key' && <NewKey name={peer.name} onClose={close} />}
      {open === 'config' && <KeylessConfig name={peer.name} onClose={close} />}
      {open === 'remove' && <Remove name={peer.name} onClose={close} />}
    </div>
  );
}

interface Props {
  name: string;
  onClose: () => void;
}

function NewKey({ name, onClose }: Props) {
  const queries = useQueryClient();
  const action = useAction();
  const [ready, setReady] = useState<ReadyDevice>();
  const make = () =>
    action.run(async () => {
      const pair = await makeKeyPair();
      await sdk.updatePeer({ path: { name }, body: { public_key: pair.publicKey } });
      const { config } = await data(sdk.deliverPeerConfig({ path: { name } }));
      void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
      setReady({ name, config: withPrivateKey(config, pair.privateKey) });
    });
  return (
    <Dialog title={ready ? t.ready.title(name) : t.device.newKeyTitle(name)} onClose={onClose}>
      {ready ? (
        <DeviceReady device={ready} onDone={onClose} />
      ) : (
        <div className="flex flex-col gap-5">
          <p>{t.device.newKeyText}</p>
          <ErrorNote error={action.error} />
          <div className="flex flex-wrap justify-end gap-2">
            <Button onClick={onClose}>{t.app.cancel}</Button>
            <Button kind="primary" pending={action.pending} onClick={() => void make()}>
              {t.device.newKeyMake}
            </Button>
          </div>
        </div>
      )}
    </Dialog>
  );
}

function KeylessConfig({ name, onClose }: Props) {
  const queries = useQueryClient();
  const action = useAction();
  const [ready, setReady] = useState<ReadyDevice>();
  const load = () =>
    action.run(async () => {
      const { config } = await data(sdk.deliverPeerConfig({ path: { name } }));
      void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
      setReady({ name, config });
    });
  return (
    <Dialog title={t.device.config} onClose={onClose}>
      {ready ? (
        <DeviceReady device={ready} onDone={onClose} />
      ) : (
        <div className="flex flex-col gap-5">
          <p>{t.device.configText}</p>
          <ErrorNote error={action.error} />
          <Button kind="primary" pending={action.pending} onClick={() => void load()} className="self-end">
            {t.ready.text}
          </Button>
        </div>
      )}
    </Dialog>
  );
}

function Remove({ name, onClose }: Props) {
  const queries = useQueryClient();
  const [, navigate] = useLocation();
  const safe = useSafeChange(name);
  const [accounts, setAccounts] = useState(false);
  const query = accounts ? { delete_accounts: true } : safe;
  // A person reads it before the removal; it is not what the removal needs.
  const plan = useQuery({
    queryKey: ['plan', 'remove', name, accounts],
    queryFn: () =>
      planned(sdk.deletePeer({ path: { name }, query: { ...ONLY_ASK, ...(accounts && { delete_accounts: true }) } })),
    gcTime: 0,
  }).data;
  const remove = async () => {
    await sdk.deletePeer({ path: { name }, query });
    navigate(paths.devices);
    queries.removeQueries({ queryKey: peerQuery(name).queryKey });
    void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
    void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
  };
  return (
    <Confirm
      title={t.device.removeTitle(name)}
      text={
        <>
          <p>{t.device.removeText}</p>
          {plan && <PlanList plan={plan} />}
          {/* What waits for its confirmation could not bring back what is deleted. */}
          {safe.confirm_within === undefined && (
            <Switch
              label={t.device.removeAccounts}
              help={t.device.removeAccountsText}
              checked={accounts}
              onChange={setAccounts}
            />
          )}
        </>
      }
      confirm={t.device.removeConfirm}
      act={remove}
      onClose={onClose}
    />
  );
}
