/** What a page shows while it has nothing to show: loading, failed, empty. */

import { CircleAlert } from 'lucide-react';
import { type ReactNode, useEffect, useState } from 'react';
import { Link } from 'wouter';
import { asApiError } from '../api/error';
import { t } from '../i18n';
import { paths } from '../lib/paths';
import { Button, buttonClass } from './Button';

const SLOW_MILLIS = 10_000;

/** Grey lines of the final height; after ten seconds it says so and offers to try again. */
export function Skeleton({ rows = 4, onRetry }: { rows?: number; onRetry: () => void }) {
  const [slow, setSlow] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => setSlow(true), SLOW_MILLIS);
    return () => clearTimeout(timer);
  }, []);
  return (
    <div role="status" aria-busy="true" aria-label={t.app.loading} className="flex flex-col gap-3">
      {slow && (
        <div className="flex flex-wrap items-center gap-3 text-muted text-sm">
          <span>{t.app.slow}</span>
          <Button onClick={onRetry}>{t.app.retry}</Button>
          <Link href={paths.home} className="text-accent underline">
            {t.nav.home}
          </Link>
        </div>
      )}
      {Array.from({ length: rows }, (_, row) => (
        // biome-ignore lint/suspicious/noArrayIndexKey: the rows are all alike
        <div key={row} className="h-16 animate-pulse rounded-2xl bg-hover motion-reduce:animate-none" />
      ))}
    </div>
  );
}

/** What failed, in plain words, and the way on. */
export function Failed({ error, onRetry }: { error: unknown; onRetry: () => void }) {
  const { message, code, requestId } = asApiError(error);
  return (
    <div role="alert" className="rounded-2xl border border-line bg-card p-6 text-center shadow-card">
      <CircleAlert aria-hidden className="mx-auto size-8 text-bad" />
      <h2 className="mt-3 font-semibold text-lg">{t.app.failedTitle}</h2>
      <p className="mx-auto mt-1 max-w-prose text-muted">{message}</p>
      {requestId && (
        <p className="mt-1 font-mono text-muted text-xs">
          {code} · {t.app.requestId(requestId)}
        </p>
      )}
      <Button className="mt-4" onClick={onRetry}>
        {t.app.retry}
      </Button>
    </div>
  );
}

interface EmptyProps {
  /** The page has no other heading. */
  alone?: boolean;
  icon: ReactNode;
  title: string;
  text: string;
  children?: ReactNode;
}

/** Nothing here yet, and what to do about it. */
export function Empty({ icon, title, text, alone = false, children }: EmptyProps) {
  const Heading = alone ? 'h1' : 'h2';
  return (
    <div className="flex flex-col items-center rounded-2xl border border-line bg-card px-6 py-12 text-center shadow-card">
      <div className="flex size-14 items-center justify-center rounded-2xl bg-accent-soft text-accent">{icon}</div>
      <Heading className="mt-4 font-semibold text-lg">{title}</Heading>
      <p className="mt-1 max-w-prose text-muted">{text}</p>
      {children && <div className="mt-5">{children}</div>}
    </div>
  );
}

/** A page's three states around its content; data that is there stays while a refetch fails. */
export function Loaded<T>({
  query,
  rows,
  children,
}: {
  query: { data: T | undefined; error: unknown; refetch: () => unknown };
  rows?: number;
  children: (data: T) => ReactNode;
}) {
  if (query.data !== undefined) return <>{children(query.data)}</>;
  if (query.error) return <Failed error={query.error} onRetry={() => void query.refetch()} />;
  return <Skeleton rows={rows ?? 4} onRetry={() => void query.refetch()} />;
}

export function NotFound() {
  return (
    <Empty alone icon={<CircleAlert aria-hidden />} title={t.app.notFound} text={t.app.notFoundText}>
      <Link href={paths.home} className={buttonClass('primary')}>
        {t.app.toHome}
      </Link>
    </Empty>
  );
}
