/** What ends a device's present setup: a new key, or its removal. Also its configuration without a key. */

import { keepPreviousData, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { useLocation } from 'wouter';
import { data, sdk } from '../api/client';
import { ApiError, NO_ANSWER } from '../api/error';
import { networkChangeQuery, peerQuery, peersQuery } from '../api/queries';
import type { ChangePlan, Peer } from '../api/types';
import { t } from '../i18n';
import { withPrivateKey } from '../lib/config';
import { paths } from '../lib/paths';
import { ONLY_ASK, planned, type Safe, safeOf } from '../lib/plan';
import { useAction } from '../lib/useAction';
import { makeKeyPair } from '../lib/wgkeys';
import { Button } from './Button';
import { Confirm } from './Confirm';
import { DeviceReady, type ReadyDevice } from './DeviceReady';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { Switch } from './Field';
import { PlanList } from './PlanList';
import { usePlanned } from './usePlanned';

/** How long a new key of one's own device waits to be kept, seconds: its configuration has to reach the device first. */
const OWN_KEY_SECONDS = 300;
/** How long the answer to what ends the way that it comes by is waited for, milliseconds. */
const ANSWER_MS = 5_000;

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
  const { action, start, question } = usePlanned(OWN_KEY_SECONDS);
  const [ready, setReady] = useState<ReadyDevice>();
  const [waits, setWaits] = useState(false);
  const begin = async () => {
    const { publicKey, privateKey } = await makeKeyPair();
    const path = { name };
    const body = { public_key: publicKey };
    const deliver = async () => (await data(sdk.deliverPeerConfig({ path }))).config;
    const make = async (safe: Safe, plan: ChangePlan) => {
      const update = () => sdk.updatePeer({ path, query: safe, body });
      const config = plan.own_path === 'cut' ? await overItsEnd(deliver, update) : await update().then(deliver);
      void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
      void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
      setWaits(safe.confirm_within !== undefined);
      setReady({ name, config: withPrivateKey(config, privateKey) });
    };
    start({ plan: () => planned(sdk.updatePeer({ path, query: ONLY_ASK, body })), make });
  };
  if (question) return question;
  return (
    <Dialog title={ready ? t.ready.title(name) : t.device.newKeyTitle(name)} onClose={onClose}>
      {ready ? (
        <>
          {waits && <p className="mb-4 font-medium">{t.device.newKeyWaits(OWN_KEY_SECONDS / 60)}</p>}
          <DeviceReady device={ready} onDone={onClose} />
        </>
      ) : (
        <div className="flex flex-col gap-5">
          <p>{t.device.newKeyText}</p>
          <ErrorNote error={action.error} />
          <div className="flex flex-wrap justify-end gap-2">
            <Button onClick={onClose}>{t.app.cancel}</Button>
            <Button kind="primary" pending={action.pending} onClick={() => void begin()}>
              {t.device.newKeyMake}
            </Button>
          </div>
        </div>
      )}
    </Dialog>
  );
}

/** The configuration, read before the change that ends the way it comes by; of that change perhaps no answer is heard. */
async function overItsEnd(deliver: () => Promise<string>, update: () => Promise<unknown>): Promise<string> {
  const config = await deliver();
  const answer = update().catch((error: unknown) => {
    if (!(error instanceof ApiError && error.code === NO_ANSWER)) throw error;
  });
  await Promise.race([answer, new Promise((resolve) => setTimeout(resolve, ANSWER_MS))]);
  return config;
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
  const [accounts, setAccounts] = useState(false);
  const ask = () =>
    planned(sdk.deletePeer({ path: { name }, query: { ...ONLY_ASK, ...(accounts && { delete_accounts: true }) } }));
  const plan = useQuery({
    queryKey: ['plan', 'remove', name, accounts],
    queryFn: ask,
    gcTime: 0,
    placeholderData: keepPreviousData,
  }).data;
  const remove = async () => {
    const safe = safeOf(plan ?? (await ask()));
    await sdk.deletePeer({ path: { name }, query: accounts ? { delete_accounts: true } : safe });
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
          {plan && !plan.confirm_advised && (
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
