/** A service's settings as a form: edited here, saved as a whole. */

import { useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { splitViolations } from '../api/error';
import { serviceQuery, servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { formFields, sentValues, shownValues } from '../lib/services';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';
import { ServiceForm } from './ServiceForm';

export function ServiceConfig({ service }: { service: Service }) {
  const queries = useQueryClient();
  const action = useAction();
  const stored = shownValues(service.form, service.parameters);
  // Only what was typed here: somebody else's change shows in the fields that were left alone.
  const [typed, setTyped] = useState<Record<string, string>>({});
  const [saved, setSaved] = useState(false);
  if (service.form.length === 0) return <p className="text-muted">{s.config.none}</p>;
  const values = { ...stored, ...typed };
  const changed = service.form.some(({ name }) => values[name] !== stored[name]);
  const busy = service.phase !== 'installed';
  const submit = (event: FormEvent) => {
    event.preventDefault();
    void action.run(async () => {
      const path = { service: service.name };
      const now = await data(sdk.configureService({ path, body: { parameters: sentValues(service.form, values) } }));
      queries.setQueryData(serviceQuery(service.name).queryKey, now);
      void queries.invalidateQueries({ queryKey: servicesQuery.queryKey });
      setTyped({});
      setSaved(true);
    });
  };
  const fields = formFields(service.form);
  return (
    <form onSubmit={submit} className="flex flex-col gap-5">
      <p className="text-muted text-sm">{s.config.text}</p>
      <ErrorNote error={action.error} fields={fields} />
      <ServiceForm
        form={service.form}
        values={values}
        errors={splitViolations(action.error, fields).byField}
        onChange={(next) => {
          setTyped(next);
          setSaved(false);
        }}
      />
      <div className="flex flex-wrap items-center gap-3">
        <Button kind="primary" type="submit" pending={action.pending} disabled={!changed || busy}>
          {action.pending ? t.app.saving : s.config.save}
        </Button>
        {changed && !action.pending && (
          <Button
            kind="quiet"
            onClick={() => {
              setTyped({});
              action.clear();
            }}
          >
            {t.device.discard}
          </Button>
        )}
        <p role="status" className="text-muted text-sm">
          {busy ? s.config.busy : saved && !changed ? s.config.saved : ''}
        </p>
      </div>
    </form>
  );
}
