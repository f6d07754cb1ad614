/** A service's settings as a form: edited here, saved as a whole. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { data, sdk } from '../api/client';
import { type ApiError, asApiError, splitViolations } from '../api/error';
import { serviceQuery, servicesQuery } from '../api/queries';
import type { Service } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { formFields, sentValues, shownValues } from '../lib/services';
import { useAction } from '../lib/useAction';
import { useDebounced } from '../lib/useDebounced';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';
import { ServiceForm } from './ServiceForm';

const REST_MILLIS = 400;

export function ServiceConfig({ service }: { service: Service }) {
  const queries = useQueryClient();
  const action = useAction();
  const stored = shownValues(service.form, service.parameters);
  // Only what was typed here: somebody else's change shows in the fields that were left alone.
  const [typed, setTyped] = useState<Record<string, string>>({});
  const [saved, setSaved] = useState(false);
  const values = { ...stored, ...typed };
  const changed = service.form.some(({ name }) => values[name] !== stored[name]);
  const refusal = useRefusal(service, values, changed);
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
  if (service.form.length === 0) return <p className="text-muted">{s.config.none}</p>;
  const error = action.error ?? refusal;
  return (
    <form onSubmit={submit} className="flex flex-col gap-5">
      <p className="text-muted text-sm">{s.config.text}</p>
      <ErrorNote error={error} fields={fields} />
      <ServiceForm
        form={service.form}
        values={values}
        errors={splitViolations(error, fields).byField}
        onChange={(next) => {
          setTyped(next);
          setSaved(false);
          action.clear();
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

/** What the cell has against settings that are not saved yet, asked whenever the form has rested: nothing is set by that. */
function useRefusal(service: Service, values: Record<string, string>, changed: boolean): ApiError | undefined {
  const now = JSON.stringify(sentValues(service.form, values));
  const rested = useDebounced(now, REST_MILLIS);
  const asked = useQuery({
    queryKey: ['validate', service.name, rested],
    queryFn: () => {
      const body = { parameters: JSON.parse(rested) as Record<string, string> };
      return data(sdk.validateServiceConfig({ path: { service: service.name }, body }));
    },
    enabled: changed && rested === now,
    gcTime: 0,
    retry: false,
  });
  // That it could not be asked is no fault of the settings.
  const error = changed && rested === now && asked.error ? asApiError(asked.error) : undefined;
  return error?.status === 400 ? error : undefined;
}
