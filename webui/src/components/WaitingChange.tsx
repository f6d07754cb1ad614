/** The change that waits for its confirmation, over every page: kept, undone, or taken back when its time is over. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { data, sdk } from '../api/client';
import { networkChangeQuery } from '../api/queries';
import type { WaitingChange as Change } from '../api/types';
import { t } from '../i18n';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';

export function WaitingChange() {
  const waiting = useQuery(networkChangeQuery).data?.waiting;
  return waiting ? <Banner key={waiting.deadline} change={waiting} /> : null;
}

function Banner({ change }: { change: Change }) {
  const queries = useQueryClient();
  const action = useAction();
  const left = useCountdown(change.seconds_left);
  const settle = (act: () => Promise<unknown>) =>
    action.run(async () => {
      await act();
      await queries.invalidateQueries();
    });
  const { title, text } = t.waiting;
  return (
    <section
      aria-label={t.waiting.label}
      className="fixed inset-x-0 bottom-18 z-30 mx-auto flex w-[min(40rem,calc(100%-2rem))] flex-col gap-3 rounded-xl border border-line bg-card p-4 shadow-dialog md:bottom-6"
    >
      <div className="flex flex-wrap items-center justify-between gap-3">
        <div className="min-w-0 flex-1">
          <p className="break-words font-medium">{title(change)}</p>
          {/* Told once, not each second. */}
          <p className="text-muted text-sm" role="timer" aria-live="off">
            {left > 0 ? text(left) : t.waiting.over}
          </p>
        </div>
        <div className="flex gap-2">
          <Button disabled={action.pending} onClick={() => void settle(() => data(sdk.rollBackNetworkChange()))}>
            {t.waiting.undo}
          </Button>
          <Button
            kind="primary"
            pending={action.pending}
            onClick={() => void settle(() => data(sdk.confirmNetworkChange()))}
          >
            {t.waiting.keep}
          </Button>
        </div>
      </div>
      <ErrorNote error={action.error} />
    </section>
  );
}

/** Seconds left, by this browser's own clock from when the cell said how many. */
function useCountdown(seconds: number): number {
  const [ends, setEnds] = useState(() => performance.now() + seconds * 1000);
  const [now, setNow] = useState(() => performance.now());
  useEffect(() => setEnds(performance.now() + seconds * 1000), [seconds]);
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 500);
    return () => clearInterval(timer);
  }, []);
  return Math.max(0, Math.ceil((ends - now) / 1000));
}
