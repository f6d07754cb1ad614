/** A device's access as a form: edited here, saved as a whole. */

import { useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useEffect, useState } from 'react';
import { sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { networkChangeQuery, peerQuery, peersQuery } from '../api/queries';
import { fullAccess, type Peer } from '../api/types';
import { t } from '../i18n';
import { made, ONLY_ASK, planned, type Safe } from '../lib/plan';
import { AccessEditor, accessFields } from './AccessEditor';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';
import { Select } from './Field';
import { TUNNELS } from './MoreOptions';
import { usePlanned } from './usePlanned';

export function DeviceAccess({ peer }: { peer: Peer }) {
  const queries = useQueryClient();
  const { action, start, question } = usePlanned();
  const stored = { access: fullAccess(peer.access), tunnel: peer.tunnel };
  const storedText = JSON.stringify(stored);
  const [draft, setDraft] = useState(stored);
  const [base, setBase] = useState(storedText);
  const [saved, setSaved] = useState(false);
  const changed = JSON.stringify(draft) !== base;
  useEffect(() => {
    // Somebody else's change is taken over unless it would overwrite what is being edited here.
    if (!changed && storedText !== base) {
      setDraft(JSON.parse(storedText));
      setBase(storedText);
    }
  }, [storedText, base, changed]);

  const edit = (part: Partial<typeof stored>) => {
    setDraft({ ...draft, ...part });
    setSaved(false);
  };
  const onSubmit = (event: FormEvent) => {
    event.preventDefault();
    const path = { name: peer.name };
    const make = async (query: Safe) => {
      const updated = await made(sdk.updatePeer({ path, query, body: draft }));
      const now = { access: fullAccess(updated.access), tunnel: updated.tunnel };
      setDraft(now);
      setBase(JSON.stringify(now));
      setSaved(true);
      queries.setQueryData(peerQuery(peer.name).queryKey, updated);
      void queries.invalidateQueries({ queryKey: peersQuery.queryKey });
      void queries.invalidateQueries({ queryKey: networkChangeQuery.queryKey });
    };
    start({ plan: () => planned(sdk.updatePeer({ path, query: ONLY_ASK, body: draft })), make });
  };
  const discard = () => {
    setDraft(JSON.parse(storedText));
    setBase(storedText);
    action.clear();
  };

  const fields = [...accessFields(draft.access), 'tunnel'];
  const { byField } = splitViolations(action.error, fields);
  return (
    <>
      <form onSubmit={onSubmit} className="flex flex-col gap-4">
        <p className="text-muted text-sm">{t.device.accessText}</p>
        <ErrorNote error={action.error} fields={fields} />
        <AccessEditor access={draft.access} onChange={(access) => edit({ access })} errors={byField} />
        <Select
          label={t.device.tunnel}
          options={TUNNELS}
          value={draft.tunnel}
          onChange={(event) => edit({ tunnel: event.target.value })}
          error={byField.tunnel}
        />
        <div className="flex flex-wrap items-center gap-3">
          <Button kind="primary" type="submit" pending={action.pending} disabled={!changed && !action.pending}>
            {action.pending ? t.app.saving : t.app.save}
          </Button>
          {changed && !action.pending && (
            <Button kind="quiet" onClick={discard}>
              {t.device.discard}
            </Button>
          )}
          <p role="status" className="text-good text-sm">
            {saved && !changed ? t.device.accessSaved : ''}
          </p>
        </div>
      </form>
      {question}
    </>
  );
}
