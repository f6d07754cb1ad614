/** Start, stop, restart, update, try again, remove: each with what it does to the people who use the service. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import { asApiError } from '../api/error';
import { catalogQuery, serviceQuery, servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { ONLY_ASK } from '../lib/plan';
import { isUnderWay } from '../lib/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Choice } from './Choice';
import { Confirm } from './Confirm';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';
import { Field } from './Field';
import { Sentences } from './Sentences';

type Asked = 'stop' | 'restart' | 'update' | 'remove';

export function ServiceActions({ service, onRemoved }: { service: Service; onRemoved?: () => void }) {
  const queries = useQueryClient();
  const action = useAction();
  const [asked, setAsked] = useState<Asked>();
  const path = { service: service.name };
  const close = () => setAsked(undefined);
  const changed = (now: Service) => {
    queries.setQueryData(serviceQuery(service.name).queryKey, now);
    void queries.invalidateQueries({ queryKey: servicesQuery.queryKey });
  };
  const start = () => action.run(async () => changed(await data(sdk.startService({ path }))));
  const retry = () => action.run(() => installAgain(service).then(changed));
  const button = (label: string, act: () => void, kind?: 'warning' | 'primary') => (
    <Button {...(kind && { kind })} aria-label={`${label}: ${service.title}`} pending={action.pending} onClick={act}>
      {label}
    </Button>
  );
  const installed = service.phase === 'installed';
  const broken = service.phase === 'failed' && service.step === 'updating';
  const runs = installed || broken;
  const version = service.update?.version ?? '';
  return (
    <div className="flex flex-col gap-3">
      <div className="flex flex-wrap gap-2">
        {installed && service.update && button(s.list.update(version), () => setAsked('update'))}
        {runs && service.stopped && button(s.act.start, () => void start(), 'primary')}
        {runs && !service.stopped && button(s.act.restart, () => setAsked('restart'))}
        {runs && !service.stopped && button(s.act.stop, () => setAsked('stop'))}
        {service.phase === 'failed' && service.step === 'installing' && button(s.act.retry, () => void retry())}
        {broken && button(s.act.update, () => setAsked('update'))}
        {service.purpose !== 'core' &&
          !(isUnderWay(service) && service.phase === 'removing') &&
          button(s.act.remove, () => setAsked('remove'), 'warning')}
      </div>
      <ErrorNote error={action.error} />
      {asked === 'stop' && (
        <Confirm
          title={s.act.stopTitle(service.title)}
          text={s.act.stopText}
          confirm={s.act.stop}
          act={async () => changed(await data(sdk.stopService({ path })))}
          onClose={close}
        />
      )}
      {asked === 'restart' && (
        <Confirm
          title={s.act.restartTitle(service.title)}
          text={s.act.restartText}
          confirm={s.act.restart}
          act={async () => changed(await data(sdk.restartService({ path })))}
          onClose={close}
        />
      )}
      {asked === 'update' && (
        <Confirm
          title={s.act.updateTitle(service.title, version || service.version)}
          text={s.act.updateText}
          confirm={s.act.update}
          act={async () => changed(await data(sdk.updateService({ path })))}
          onClose={close}
        />
      )}
      {asked === 'remove' && <Remove service={service} onRemoved={onRemoved} onClose={close} />}
    </div>
  );
}

/** As it was asked for before. */
async function installAgain({ id, instance, parameters, everyone, allowed_peers }: Service): Promise<Service> {
  const body = { ...(instance && { instance }), parameters, everyone, allowed_peers: everyone ? [] : allowed_peers };
  const { service } = await data(sdk.installService({ path: { service: id }, body }));
  if (!service) throw new Error('the cell only said what it would do');
  return service;
}

interface RemoveProps {
  service: Service;
  onRemoved: (() => void) | undefined;
  onClose: () => void;
}

/** Its data stays, unless somebody says by its name that it goes. */
function Remove({ service, onRemoved, onClose }: RemoveProps) {
  const queries = useQueryClient();
  const action = useAction();
  const [erase, setErase] = useState(false);
  const [typed, setTyped] = useState('');
  const path = { service: service.name };
  const plan = useQuery({
    queryKey: ['plan', 'remove-service', service.name, erase],
    queryFn: async () => (await data(sdk.removeService({ path, query: { ...ONLY_ASK, delete_volumes: erase } }))).plan,
    gcTime: 0,
  });
  const refused = plan.error ? asApiError(plan.error) : undefined;
  const remove = async () => {
    const done = await action.run(async () => {
      await sdk.removeService({ path, query: { delete_volumes: erase } });
      void queries.invalidateQueries({ queryKey: servicesQuery.queryKey });
      void queries.invalidateQueries({ queryKey: catalogQuery.queryKey });
    });
    if (!done) return;
    onClose();
    onRemoved?.();
  };
  return (
    <Dialog title={s.act.removeTitle(service.title)} onClose={onClose}>
      <div className="flex flex-col gap-5">
        {plan.data ? <Sentences of={plan.data} /> : !refused && <p className="text-muted">{s.act.asks}</p>}
        <ErrorNote error={refused} />
        <fieldset className="flex flex-col gap-2">
          <legend className="sr-only">{s.act.remove}</legend>
          <Choice
            name="data"
            label={s.act.keep}
            text={s.act.keepText}
            checked={!erase}
            onSelect={() => setErase(false)}
          />
          <Choice
            name="data"
            label={s.act.delete}
            text={s.act.deleteText}
            checked={erase}
            onSelect={() => setErase(true)}
          />
        </fieldset>
        {erase && (
          <Field
            label={s.act.typed(service.name)}
            value={typed}
            onChange={(event) => setTyped(event.target.value)}
            autoComplete="off"
            autoCapitalize="off"
            spellCheck={false}
          />
        )}
        <ErrorNote error={action.error} />
        <div className="flex flex-wrap justify-end gap-2">
          <Button autoFocus onClick={onClose}>
            {t.app.cancel}
          </Button>
          <Button
            kind="danger"
            pending={action.pending}
            disabled={refused !== undefined || (erase && typed.trim() !== service.name)}
            onClick={() => void remove()}
          >
            {erase ? s.act.removeDelete : s.act.removeKeep}
          </Button>
        </div>
      </div>
    </Dialog>
  );
}
