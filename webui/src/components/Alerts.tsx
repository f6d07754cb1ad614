/** The bell: what is wrong with services, and who has seen it. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Bell, CircleCheck, TriangleAlert } from 'lucide-react';
import { useState } from 'react';
import { Link } from 'wouter';
import { sdk } from '../api/client';
import { alertsQuery } from '../api/queries';
import type { Alert } from '../api/types';
import { t } from '../i18n';
import { useServerNow } from '../lib/clock';
import { formatAge } from '../lib/format';
import { paths } from '../lib/paths';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { Dialog } from './Dialog';
import { ErrorNote } from './ErrorNote';

export function AlertBell() {
  const alerts = useQuery(alertsQuery).data;
  const [open, setOpen] = useState(false);
  if (!alerts) return null;
  const fresh = alerts.filter((alert) => !alert.acknowledged).length;
  return (
    <>
      <Button
        kind="quiet"
        aria-haspopup="dialog"
        aria-label={t.alerts.open(fresh)}
        title={t.alerts.open(fresh)}
        onClick={() => setOpen(true)}
        className="relative max-sm:px-3"
      >
        <Bell aria-hidden className="size-4" />
        {fresh > 0 && (
          <span
            aria-hidden
            className="absolute end-0.5 top-0.5 flex h-5 min-w-5 items-center justify-center rounded-full bg-bad px-1 text-on-bad text-xs tabular-nums"
          >
            {fresh > 99 ? '99+' : fresh}
          </span>
        )}
      </Button>
      {open && <AlertDialog alerts={alerts} onClose={() => setOpen(false)} />}
    </>
  );
}

function AlertDialog({ alerts, onClose }: { alerts: readonly Alert[]; onClose: () => void }) {
  const queries = useQueryClient();
  const action = useAction();
  const acknowledge = (id: string) =>
    action.run(async () => {
      await sdk.acknowledgeAlert({ path: { id } });
      await queries.invalidateQueries({ queryKey: alertsQuery.queryKey });
    });
  // Those that nobody has seen first, then the newest.
  const order = [...alerts].sort(
    (a, b) => Number(a.acknowledged) - Number(b.acknowledged) || Date.parse(b.since) - Date.parse(a.since),
  );
  return (
    <Dialog title={t.alerts.title} onClose={onClose}>
      <div className="flex flex-col gap-3">
        <ErrorNote error={action.error} />
        {order.length === 0 && (
          <p className="flex items-start gap-3 text-muted">
            <CircleCheck aria-hidden className="mt-0.5 size-5 shrink-0 text-good" />
            <span>
              <span className="block font-medium text-ink">{t.alerts.none}</span>
              {t.alerts.noneText}
            </span>
          </p>
        )}
        <ul aria-label={t.alerts.title} className="divide-y divide-line empty:hidden">
          {order.map((alert) => (
            <One
              key={alert.id}
              alert={alert}
              pending={action.pending}
              onAcknowledge={() => void acknowledge(alert.id)}
              onClose={onClose}
            />
          ))}
        </ul>
      </div>
    </Dialog>
  );
}

interface OneProps {
  alert: Alert;
  pending: boolean;
  onAcknowledge: () => void;
  onClose: () => void;
}

function One({ alert, pending, onAcknowledge, onClose }: OneProps) {
  const now = useServerNow();
  const look = alert.severity === 'warning' ? 'text-warn' : 'text-bad';
  const age = formatAge((now - Date.parse(alert.since)) / 1000);
  return (
    <li className="flex items-start gap-3 py-3">
      <TriangleAlert aria-hidden className={`mt-1 size-4 shrink-0 ${look}`} />
      <div className="min-w-0 flex-1">
        <p className="break-words">
          <span className={`font-medium ${look}`}>{t.alerts.severity[alert.severity] ?? alert.severity}</span>{' '}
          {alert.service && (
            <Link
              href={paths.service(alert.service)}
              onClick={onClose}
              className="font-medium underline focus-visible:outline-2 focus-visible:outline-accent"
            >
              {alert.service}
            </Link>
          )}
        </p>
        <p className="break-words first-letter:uppercase">{alert.text}</p>
        <p className="text-muted text-sm">
          {t.alerts.since(age)}
          {alert.acknowledged && ` · ${t.alerts.acknowledged}`}
        </p>
      </div>
      {!alert.acknowledged && (
        <Button pending={pending} aria-label={t.alerts.of(alert.text)} onClick={onAcknowledge}>
          {t.alerts.acknowledge}
        </Button>
      )}
    </li>
  );
}
