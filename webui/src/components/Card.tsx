import type { ReactNode } from 'react';

export function Card({ title, aside, children }: { title?: string; aside?: ReactNode; children: ReactNode }) {
  return (
    <section className="rounded-2xl border border-line bg-card p-5 shadow-card sm:p-6">
      {title && (
        <div className="mb-4 flex flex-wrap items-center justify-between gap-2">
          <h2 className="font-semibold text-base tracking-tight">{title}</h2>
          {aside}
        </div>
      )}
      {children}
    </section>
  );
}

/** A page's heading and what can be done on it. */
export function PageHeader({ title, text, children }: { title: string; text?: ReactNode; children?: ReactNode }) {
  return (
    <div className="mb-6 flex flex-wrap items-end justify-between gap-x-6 gap-y-3">
      <div className="min-w-0">
        <h1 className="break-words font-semibold text-2xl tracking-tight sm:text-3xl">{title}</h1>
        {text && <div className="mt-1 text-muted">{text}</div>}
      </div>
      {children}
    </div>
  );
}

/** Name, value, and whether the value is too long for half a row. */
export type Fact = readonly [name: string, value: ReactNode, wide?: true];

/** Names and values; wraps to one column on narrow screens. */
export function Facts({ facts }: { facts: readonly Fact[] }) {
  return (
    <dl className="grid gap-x-8 gap-y-4 sm:grid-cols-2">
      {facts.map(([name, value, wide]) => (
        <div key={name} className={`min-w-0 ${wide ? 'sm:col-span-2' : ''}`}>
          <dt className="text-muted text-sm">{name}</dt>
          <dd className="mt-0.5 break-words">{value}</dd>
        </div>
      ))}
    </dl>
  );
}
