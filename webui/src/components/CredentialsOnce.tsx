/** What somebody needs to sign in, shown this once. Lives in the dialog that shows it alone. */

import { Check, Copy } from 'lucide-react';
import { useRef, useState } from 'react';
import type { AccountCredential } from '../api/types';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { copyText } from '../lib/copy';
import { Button } from './Button';

export function CredentialsOnce({
  credentials,
  onDone,
}: {
  credentials: readonly AccountCredential[];
  onDone: () => void;
}) {
  return (
    <div className="flex flex-col gap-5">
      <p className="rounded-xl bg-warn-soft p-3 text-sm text-warn">{s.accounts.once}</p>
      {credentials.map((one) => (
        <section key={one.service} aria-label={one.service} className="flex flex-col gap-3">
          {credentials.length > 1 && <h3 className="font-semibold">{one.service}</h3>}
          <Value label={s.accounts.user} what={s.accounts.userWord} value={one.user} />
          <Value label={s.accounts.password} what={s.accounts.passwordWord} value={one.password} />
          {one.where.length > 0 && (
            <div>
              <p className="mb-1 font-medium text-sm">{s.accounts.where}</p>
              <ul className="flex flex-col gap-2">
                {one.where.map((line) => (
                  <li key={line}>
                    <Value label={s.accounts.where} what={s.accounts.addressWord} value={line} bare />
                  </li>
                ))}
              </ul>
            </div>
          )}
        </section>
      ))}
      <Button kind="primary" className="w-full" onClick={onDone}>
        {t.app.done}
      </Button>
    </div>
  );
}

interface ValueProps {
  label: string;
  /** What the button says that it copies. */
  what: string;
  value: string;
  bare?: boolean;
}

function Value({ label, what, value, bare = false }: ValueProps) {
  const input = useRef<HTMLInputElement>(null);
  const [state, setState] = useState<'idle' | 'copied' | 'by-hand'>('idle');
  const copy = async () => {
    const done = await copyText(value);
    setState(done ? 'copied' : 'by-hand');
    if (done) return;
    input.current?.focus();
    input.current?.select();
  };
  const Icon = state === 'copied' ? Check : Copy;
  return (
    <div>
      {!bare && <p className="mb-1 font-medium text-sm">{label}</p>}
      <div className="flex items-center gap-2">
        <input
          ref={input}
          readOnly
          aria-label={label}
          value={value}
          className="min-h-11 w-full min-w-0 rounded-xl border border-line bg-hover px-3 font-mono text-ink text-sm focus-visible:outline-2 focus-visible:outline-accent"
        />
        <Button onClick={() => void copy()} aria-label={s.accounts.copy(what)} className="shrink-0 px-3">
          <Icon aria-hidden className="size-4" />
          <span aria-live="polite" className={state === 'by-hand' ? '' : 'sr-only'}>
            {{ idle: '', copied: t.app.copied, 'by-hand': t.app.copyByHand }[state]}
          </span>
        </Button>
      </div>
    </div>
  );
}
