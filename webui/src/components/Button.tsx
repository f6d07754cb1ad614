import type { ButtonHTMLAttributes, ReactNode } from 'react';
import { autofocusAttribute } from '../lib/autofocus';

type Kind = 'primary' | 'secondary' | 'quiet' | 'warning' | 'danger';

const BASE =
  'inline-flex min-h-11 cursor-pointer items-center justify-center gap-2 rounded-xl px-4 font-medium text-sm ' +
  'transition-colors motion-reduce:transition-none focus-visible:outline-2 focus-visible:outline-offset-2 ' +
  'focus-visible:outline-accent disabled:cursor-not-allowed disabled:opacity-55 md:min-h-10';

const KINDS: Record<Kind, string> = {
  primary: 'bg-accent text-on-accent hover:bg-accent-strong',
  secondary: 'border border-line bg-card text-ink hover:bg-hover',
  quiet: 'text-muted hover:bg-hover hover:text-ink',
  warning: 'border border-line bg-card text-bad hover:bg-bad-soft',
  danger: 'bg-bad text-on-bad hover:opacity-90',
};

/** The classes of a button, for links that look like one. */
export function buttonClass(kind: Kind = 'secondary', more = ''): string {
  return `${BASE} ${KINDS[kind]} ${more}`;
}

interface Props extends ButtonHTMLAttributes<HTMLButtonElement> {
  kind?: Kind;
  /** Under way: shown as busy, clicks do nothing, focus stays. */
  pending?: boolean;
  children: ReactNode;
}

export function Button({ kind = 'secondary', pending = false, className = '', children, onClick, ...rest }: Props) {
  return (
    <button
      type="button"
      {...rest}
      ref={rest.autoFocus ? autofocusAttribute : undefined}
      aria-disabled={pending || undefined}
      aria-busy={pending || undefined}
      onClick={pending ? (event) => event.preventDefault() : onClick}
      className={buttonClass(kind, `${pending ? 'cursor-progress opacity-70' : ''} ${className}`)}
    >
      {children}
    </button>
  );
}
