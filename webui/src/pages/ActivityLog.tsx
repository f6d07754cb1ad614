/** The audit log, newest first; whether its chain of hashes holds is looked at when somebody asks. */

import { useQuery } from '@tanstack/react-query';
import { History, type LucideIcon, ShieldAlert, ShieldCheck, ShieldQuestionMark } from 'lucide-react';
import { useState } from 'react';
import { asApiError } from '../api/error';
import { AUDIT_PAGE, auditPageQuery, auditTailQuery, auditVerdictQuery } from '../api/queries';
import type { AuditRecord, AuditVerdict } from '../api/types';
import { Button } from '../components/Button';
import { PageHeader } from '../components/Card';
import { ErrorNote } from '../components/ErrorNote';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { actionWords, detailWords, subjectWords } from '../lib/audit';
import { formatClock, formatCount, formatDateTime } from '../lib/format';
import { useTitle } from '../lib/useTitle';

export default function ActivityLog() {
  useTitle(t.activity.title);
  const tail = useQuery(auditTailQuery());
  return (
    <>
      <PageHeader title={t.activity.title} text={t.activity.text} />
      <div className="flex flex-col gap-5">
        <Chain />
        <Loaded query={tail} rows={8}>
          {({ records }) => {
            // They are numbered from 1 without a gap.
            const count = records[0]?.sequence ?? 0;
            if (count > 0) return <Records newest={records} count={count} />;
            return (
              <Empty
                icon={<History aria-hidden className="size-7" />}
                title={t.activity.empty}
                text={t.activity.emptyText}
              />
            );
          }}
        </Loaded>
      </div>
    </>
  );
}

interface Look {
  Icon: LucideIcon;
  look: string;
  title: string;
  text: string;
}

function Chain() {
  const verdict = useQuery(auditVerdictQuery);
  const { Icon, look, title, text } = chainLook(verdict.data, verdict.dataUpdatedAt);
  return (
    <div className="flex flex-col gap-4 rounded-2xl border border-line bg-card p-4 shadow-card">
      <div className="flex flex-wrap items-center gap-4">
        <div className={`flex size-11 shrink-0 items-center justify-center rounded-xl ${look}`}>
          <Icon aria-hidden className="size-6" />
        </div>
        <div role="status" className="min-w-0 flex-1 basis-48">
          <p className="font-semibold">{title}</p>
          <p className="break-words text-muted text-sm">{text}</p>
        </div>
        <Button pending={verdict.isFetching} onClick={() => void verdict.refetch()}>
          {verdict.data ? t.activity.verify : t.activity.verifyFirst}
        </Button>
      </div>
      <ErrorNote error={verdict.error === null || verdict.isFetching ? undefined : asApiError(verdict.error)} />
    </div>
  );
}

function chainLook(verdict: AuditVerdict | undefined, atMillis: number): Look {
  if (!verdict) {
    const words = { title: t.activity.unchecked, text: t.activity.uncheckedText };
    return { Icon: ShieldQuestionMark, look: 'bg-hover text-muted', ...words };
  }
  const checked = t.activity.checkedAt(formatClock(atMillis));
  if (verdict.intact) {
    const text = `${t.activity.intactText(formatCount(verdict.record_count))} ${checked}`;
    return { Icon: ShieldCheck, look: 'bg-good-soft text-good', title: t.activity.intact, text };
  }
  const text = `${t.activity.brokenText(verdict.first_bad_sequence, verdict.detail)} ${checked}`;
  return { Icon: ShieldAlert, look: 'bg-bad-soft text-bad', title: t.activity.broken, text };
}

/** The newest page follows the log; an older one stays where it is, whatever is written meanwhile. */
function Records({ newest, count }: { newest: AuditRecord[]; count: number }) {
  const [from, setFrom] = useState<number>();
  const older = useQuery({ ...auditPageQuery(from ?? 1), enabled: from !== undefined });
  const last = from ?? count;
  const first = Math.max(1, last - AUDIT_PAGE + 1);
  const newer = last + AUDIT_PAGE;
  return (
    <>
      {from === undefined ? (
        <Lines records={newest} />
      ) : (
        <Loaded query={older} rows={8}>
          {({ records }) => <Lines records={records} />}
        </Loaded>
      )}
      <div className="flex items-center justify-between gap-3">
        <Button disabled={from === undefined} onClick={() => setFrom(newer >= count ? undefined : newer)}>
          {t.activity.newer}
        </Button>
        <span role="status" className="text-center text-muted text-sm">
          {t.activity.range(formatCount(first), formatCount(last), formatCount(count))}
        </span>
        <Button disabled={first === 1} onClick={() => setFrom(first - 1)}>
          {t.activity.older}
        </Button>
      </div>
    </>
  );
}

function Lines({ records }: { records: AuditRecord[] }) {
  return (
    <ol className="divide-y divide-line overflow-hidden rounded-2xl border border-line bg-card shadow-card">
      {records.map((record) => (
        <Line key={record.sequence} record={record} />
      ))}
    </ol>
  );
}

function Line({ record }: { record: AuditRecord }) {
  const detail = detailWords(record);
  return (
    <li className="grid gap-x-6 gap-y-0.5 px-5 py-3.5 text-sm md:grid-cols-[12rem_1fr_14rem]">
      <time dateTime={record.time} className="text-muted md:order-1">
        {formatDateTime(record.time)}
      </time>
      <p className="min-w-0 break-words md:order-2">
        <span className="font-medium">{actionWords(record)}</span> {subjectWords(record)}
        {detail && <span className="block text-muted">{detail}</span>}
      </p>
      <p className="min-w-0 break-words text-muted md:order-3">
        {record.actor}
        {record.remote && <span className="block font-mono text-xs">{record.remote}</span>}
      </p>
    </li>
  );
}
