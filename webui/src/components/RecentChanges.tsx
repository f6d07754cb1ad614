/** The last five lines of the audit log. */

import { useQuery } from '@tanstack/react-query';
import { Link } from 'wouter';
import { auditQuery, auditVerdictQuery } from '../api/queries';
import { t } from '../i18n';
import { serverNow } from '../lib/clock';
import { formatAge } from '../lib/format';
import { paths } from '../lib/paths';
import { Card } from './Card';

const SHOWN = 5;

export function RecentChanges() {
  const verdict = useQuery(auditVerdictQuery);
  const count = verdict.data?.record_count;
  const page = useQuery({ ...auditQuery(Math.max(1, (count ?? 0) - SHOWN + 1), SHOWN), enabled: count !== undefined });
  return (
    <Card
      title={t.home.recent}
      aside={
        <Link
          href={paths.activity}
          className="rounded text-accent text-sm underline-offset-4 hover:underline focus-visible:outline-2 focus-visible:outline-accent"
        >
          {t.home.allChanges}
        </Link>
      }
    >
      <ul className="-my-2 min-h-60 divide-y divide-line">
        {[...(page.data?.records ?? [])].reverse().map((record) => (
          <li key={record.sequence} className="flex min-h-12 items-center justify-between gap-4 py-2">
            <span className="min-w-0 break-words">
              <span className="font-medium">{t.activity.actions[record.action] ?? record.action}</span>{' '}
              <span className="text-muted">{record.subject}</span>
              <span className="block text-muted text-sm">{record.actor}</span>
            </span>
            <time dateTime={record.time} className="shrink-0 text-muted text-sm">
              {t.time.ago(formatAge((serverNow() - Date.parse(record.time)) / 1000))}
            </time>
          </li>
        ))}
      </ul>
    </Card>
  );
}
