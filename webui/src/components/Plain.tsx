/** The frame of pages without navigation: setup, signing in. */

import type { ReactNode } from 'react';
import { Logo } from './Logo';
import { ThemeSwitch } from './ThemeSwitch';

export function Plain({
  title,
  text,
  wide = false,
  children,
}: {
  title: string;
  text?: string;
  wide?: boolean;
  children: ReactNode;
}) {
  return (
    <div className="flex min-h-dvh flex-col">
      <main
        className={`mx-auto flex w-full flex-1 flex-col justify-center px-4 py-8 ${wide ? 'max-w-xl' : 'max-w-md'}`}
      >
        <Logo className="size-11 text-accent" />
        <h1 className="mt-5 font-semibold text-2xl tracking-tight sm:text-3xl">{title}</h1>
        {text && <p className="mt-2 text-muted">{text}</p>}
        <div className="mt-6 rounded-2xl border border-line bg-card p-5 shadow-card sm:p-7">{children}</div>
      </main>
      <footer className="mx-auto w-36 pb-6">
        <ThemeSwitch />
      </footer>
    </div>
  );
}
