/** The audit log, newest first, and whether its chain of hashes holds. */

import { useQuery } from '@tanstack/react-query';
import { History, ShieldAlert, ShieldCheck } from 'lucide-react';
import { useState } from 'react';
import { AUDIT_PAGE, auditQuery, auditVerdictQuery } from '../api/queries';
import type { AuditRecord, AuditVerdict } from '../api/types';
import { Button } from '../components/Button';
import { PageHeader } from '../components/Card';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { formatCount, formatDateTime } from '../lib/format';
import { useTitle } from '../lib/useTitle';

export default function ActivityLog() {
  useTitle(t.activity.title);
  const verdict = useQuery(auditVerdictQuery);
  return (
    <>
      <PageHeader title={t.activity.title} text={t.activity.text} />
      <Loaded query={verdict} rows={6}>
        {(data) => (
          <div className="flex flex-col gap-5">
            <Chain verdict={data} pending={verdict.isFetching} onVerify={() => void verdict.refetch()} />
            {data.record_count === 0 ? (
              <Empty
                icon={<History aria-hidden className="size-7" />}
                title={t.activity.empty}
                text={t.activity.emptyText}
              />
            ) : (
              <Records count={data.record_count} />
            )}
          </div>
        )}
      </Loaded>
    </>
  );
}

function Chain({ verdict, pending, onVerify }: { verdict: AuditVerdict; pending: boolean; onVerify: () => void }) {
  const Icon = verdict.intact ? ShieldCheck : ShieldAlert;
  const look = verdict.intact ? 'bg-good-soft text-good' : 'bg-bad-soft text-bad';
  return (
    <div className="flex flex-wrap items-center gap-4 rounded-2xl border border-line bg-card p-4 shadow-card">
      <div className={`flex size-11 shrink-0 items-center justify-center rounded-xl ${look}`}>
        <Icon aria-hidden className="size-6" />
      </div>
      <div role="status" className="min-w-0 flex-1 basis-48">
        <p className="font-semibold">{verdict.intact ? t.activity.intact : t.activity.broken}</p>
        <p className="break-words text-muted text-sm">
          {verdict.intact
            ? t.activity.intactText(formatCount(verdict.record_count))
            : t.activity.brokenText(verdict.first_bad_sequence, verdict.detail)}
        </p>
      </div>
      <Button pending={pending} onClick={onVerify}>
        {t.activity.verify}
      </Button>
    </div>
  );
}

/** `count` records, numbered from 1; pages are counted back from the newest. */
function Records({ count }: { count: number }) {
  const [back, setBack] = useState(0);
  const last = count - back * AUDIT_PAGE;
  const first = Math.max(1, last - AUDIT_PAGE + 1);
  const page = useQuery(auditQuery(first, last - first + 1));
  return (
    <>
      <Loaded query={page} rows={8}>
        {(data) => (
          <ol className="divide-y divide-line overflow-hidden rounded-2xl border border-line bg-card shadow-card">
            {[...data.records].reverse().map((record) => (
              <Line key={record.sequence} record={record} />
            ))}
          </ol>
        )}
      </Loaded>
      <div className="flex items-center justify-between gap-3">
        <Button disabled={back === 0} onClick={() => setBack(back - 1)}>
          {t.activity.newer}
        </Button>
        <span className="text-muted text-sm">
          {t.activity.range(formatCount(first), formatCount(last), formatCount(count))}
        </span>
        <Button disabled={first === 1} onClick={() => setBack(back + 1)}>
          {t.activity.older}
        </Button>
      </div>
    </>
  );
}

function Line({ record }: { record: AuditRecord }) {
  return (
    <li className="grid gap-x-6 gap-y-0.5 px-5 py-3.5 text-sm md:grid-cols-[12rem_1fr_14rem]">
      <time dateTime={record.time} className="text-muted md:order-1">
        {formatDateTime(record.time)}
      </time>
      <p className="min-w-0 break-words md:order-2">
        <span className="font-medium">{t.activity.actions[record.action] ?? record.action}</span> {record.subject}
        {record.detail && <span className="block text-muted">{record.detail}</span>}
      </p>
      <p className="min-w-0 break-words text-muted md:order-3">
        {record.actor}
        {record.remote && <span className="block font-mono text-xs">{record.remote}</span>}
      </p>
    </li>
  );
}
