/** What the cell's DNS logs of what devices look up: chosen at once, without a restart. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { data, sdk } from '../api/client';
import { queryLogQuery } from '../api/queries';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { Choice } from './Choice';
import { ErrorNote } from './ErrorNote';
import { Loaded } from './States';

const LEVELS = ['off', 'errors', 'questions'] as const;

export function QueryLog() {
  const queries = useQueryClient();
  const action = useAction();
  const level = useQuery(queryLogQuery);
  const choose = (wanted: string) =>
    action.run(async () => {
      const now = await data(sdk.setQueryLog({ body: { level: wanted } }));
      queries.setQueryData(queryLogQuery.queryKey, now.level);
    });
  return (
    <Loaded query={level} rows={1}>
      {(now) => (
        <fieldset className="flex flex-col gap-2">
          <legend className="sr-only">{t.settings.queryLog}</legend>
          {LEVELS.map((one) => (
            <Choice
              key={one}
              name="query-log"
              label={t.settings.queryLogLevels[one][0]}
              text={t.settings.queryLogLevels[one][1]}
              checked={now === one}
              onSelect={() => void choose(one)}
            />
          ))}
          <ErrorNote error={action.error} />
        </fieldset>
      )}
    </Loaded>
  );
}
