/** The last five lines of the audit log. */

import { useQuery } from '@tanstack/react-query';
import { Link } from 'wouter';
import { auditTailQuery } from '../api/queries';
import type { AuditRecord } from '../api/types';
import { t } from '../i18n';
import { actionWords, subjectWords } from '../lib/audit';
import { useServerNow } from '../lib/clock';
import { formatAgo, formatDateTime } from '../lib/format';
import { paths } from '../lib/paths';
import { Card } from './Card';
import { Loaded } from './States';

const SHOWN = 5;

export function RecentChanges() {
  const page = useQuery(auditTailQuery(SHOWN));
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
      <Loaded query={page} rows={3}>
        {({ records }) => (
          <ul className="-my-2 divide-y divide-line">
            {records.map((record) => (
              <Change key={record.sequence} record={record} />
            ))}
          </ul>
        )}
      </Loaded>
    </Card>
  );
}

function Change({ record }: { record: AuditRecord }) {
  const now = useServerNow();
  return (
    <li className="flex min-h-12 items-center justify-between gap-4 py-2">
      <span className="min-w-0 break-words">
        <span className="font-medium">{actionWords(record)}</span>{' '}
        <span className="text-muted">{subjectWords(record)}</span>
        <span className="block text-muted text-sm">{record.actor}</span>
      </span>
      <time dateTime={record.time} title={formatDateTime(record.time)} className="shrink-0 text-muted text-sm">
        {formatAgo((now - Date.parse(record.time)) / 1000)}
      </time>
    </li>
  );
}
