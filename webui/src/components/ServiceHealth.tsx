/** How a service's health changed, newest first. */

import { useQuery } from '@tanstack/react-query';
import { useState } from 'react';
import { healthHistoryQuery } from '../api/queries';
import { s } from '../i18n/services';
import { formatDateTime } from '../lib/format';
import { Button } from './Button';
import { Loaded } from './States';

const FIRST = 10;

const DOT: Record<string, string> = {
  healthy: 'bg-good',
  starting: 'bg-accent',
  unhealthy: 'bg-bad',
  down: 'bg-bad',
  failed: 'bg-bad',
};

export function ServiceHealth({ service }: { service: string }) {
  const history = useQuery(healthHistoryQuery(service));
  const [all, setAll] = useState(false);
  return (
    <Loaded query={history} rows={2}>
      {(entries) => {
        const newest = [...entries].sort((a, b) => Date.parse(b.at) - Date.parse(a.at));
        const shown = all ? newest : newest.slice(0, FIRST);
        if (newest.length === 0) return <p className="text-muted">{s.health.none}</p>;
        return (
          <div className="flex flex-col gap-3">
            <ol aria-label={s.health.list} className="divide-y divide-line">
              {shown.map((entry) => (
                <li key={`${entry.at} ${entry.state} ${entry.detail}`} className="py-2">
                  <p className="flex flex-wrap items-center justify-between gap-x-4">
                    <span className="inline-flex items-center gap-2 font-medium">
                      <span aria-hidden className={`size-2.5 rounded-full ${DOT[entry.state] ?? 'bg-edge'}`} />
                      {s.health.states[entry.state] ?? entry.state}
                    </span>
                    <time dateTime={entry.at} className="text-muted text-sm tabular-nums">
                      {formatDateTime(entry.at)}
                    </time>
                  </p>
                  {entry.detail && (
                    <p className="break-words text-muted text-sm first-letter:uppercase">{entry.detail}</p>
                  )}
                </li>
              ))}
            </ol>
            {shown.length < newest.length && (
              <Button className="self-start" onClick={() => setAll(true)}>
                {s.health.more(newest.length - shown.length)}
              </Button>
            )}
          </div>
        );
      }}
    </Loaded>
  );
}
