/** The frame of every signed-in page: navigation, the add button, the live banner, the account. */

import {
  Activity,
  Blocks,
  Ellipsis,
  House,
  LogOut,
  type LucideIcon,
  Plus,
  Settings,
  Smartphone,
  Users,
  Waypoints,
} from 'lucide-react';
import { type ReactNode, useState } from 'react';
import { Link, useLocation } from 'wouter';
import type { LiveState } from '../api/live';
import type { ActiveService, Me } from '../api/types';
import { t } from '../i18n';
import { formatClock } from '../lib/format';
import { paths } from '../lib/paths';
import { AlertBell } from './Alerts';
import { Button } from './Button';
import { Dialog } from './Dialog';
import { Logo } from './Logo';
import { ServiceLinks, useActiveServices } from './ServiceLinks';
import { ThemeSwitch } from './ThemeSwitch';

interface Entry {
  path: string;
  label: string;
  Icon: LucideIcon;
  /** Pages that belong to it, too. */
  also?: string[];
}

const ADMIN_ENTRIES: Entry[] = [
  { path: paths.home, label: t.nav.home, Icon: House },
  { path: paths.devices, label: t.nav.devices, Icon: Smartphone },
  { path: paths.exits, label: t.nav.exits, Icon: Waypoints },
  { path: paths.services, label: t.nav.services, Icon: Blocks, also: [paths.store, paths.access] },
  { path: paths.activity, label: t.nav.activity, Icon: Activity },
  { path: paths.people, label: t.nav.people, Icon: Users },
  { path: paths.settings, label: t.nav.settings, Icon: Settings },
];

/** What a phone's bar has room for; the rest is behind one more button. */
const ON_PHONE = 4;

interface Props {
  me: Me;
  live: LiveState;
  cellName: string | undefined;
  onAddDevice: () => void;
  onSignOut: () => void;
  children: ReactNode;
}

export function Shell({ me, live, cellName, onAddDevice, onSignOut, children }: Props) {
  const admin = me.role === 'admin';
  const entries = admin ? ADMIN_ENTRIES : [];
  const services = useActiveServices(admin);
  return (
    <div data-live={live.kind} className="md:grid md:min-h-dvh md:grid-cols-[15rem_1fr]">
      <a
        href="#main"
        className="sr-only z-50 rounded-xl bg-accent px-4 py-3 font-medium text-on-accent focus:not-sr-only focus:fixed focus:start-3 focus:top-3"
      >
        {t.app.skip}
      </a>
      <header className="sticky top-0 z-20 flex items-center justify-between gap-3 border-line border-b bg-card px-4 py-2 md:h-dvh md:flex-col md:items-stretch md:justify-start md:gap-6 md:border-e md:border-b-0 md:px-4 md:py-6">
        <Link
          href={paths.home}
          className="flex min-w-0 items-center gap-2.5 rounded-xl px-1 font-semibold focus-visible:outline-2 focus-visible:outline-accent md:px-2"
        >
          <Logo className="size-7 shrink-0 text-accent" />
          <span className="truncate">{cellName ?? t.app.name}</span>
        </Link>
        <div className="flex items-center gap-1 md:contents">
          {admin && (
            <Button kind="primary" onClick={onAddDevice} className="shrink-0 max-sm:px-3 md:order-2">
              <Plus aria-hidden className="size-4" />
              {t.nav.addDevice}
            </Button>
          )}
          <nav
            aria-label={t.nav.label}
            className="relative -m-1 hidden min-h-0 overflow-y-auto p-1 md:order-3 md:block"
          >
            <ul className="flex flex-col gap-1">
              {entries.map((entry) => (
                <NavLink key={entry.path} entry={entry} wide />
              ))}
            </ul>
            {services.length > 0 && (
              <div className="mt-3 border-line border-t pt-3">
                <ServiceLinks services={services} admin={admin} />
              </div>
            )}
          </nav>
          <div className="hidden md:order-4 md:mt-auto md:block">
            <ThemeSwitch />
          </div>
          <div className="flex items-center md:order-5 md:justify-between md:gap-2 md:border-line md:border-t md:ps-2 md:pt-4">
            <span className="hidden truncate font-medium text-sm md:block">{me.username}</span>
            <span className="md:ms-auto">{admin && <AlertBell />}</span>
            <Button
              kind="quiet"
              onClick={onSignOut}
              aria-label={t.nav.signOut}
              title={t.nav.signOut}
              className="max-sm:px-3"
            >
              <LogOut aria-hidden className="size-4" />
            </Button>
          </div>
        </div>
      </header>
      <div className="min-w-0">
        <LiveBanner live={live} />
        <main
          id="main"
          tabIndex={-1}
          className="mx-auto w-full max-w-6xl px-4 pt-6 pb-28 outline-none sm:px-6 md:px-10 md:py-10"
        >
          {children}
        </main>
      </div>
      {(admin || services.some((one) => one.url)) && (
        <nav
          aria-label={t.nav.label}
          className="fixed inset-x-0 bottom-0 z-20 border-line border-t bg-card pb-[env(safe-area-inset-bottom)] md:hidden"
        >
          <ul className="grid auto-cols-fr grid-flow-col">
            {entries.slice(0, ON_PHONE).map((entry) => (
              <NavLink key={entry.path} entry={entry} />
            ))}
            <More entries={entries.slice(ON_PHONE)} services={services} admin={admin} />
          </ul>
        </nav>
      )}
    </div>
  );
}

interface MoreProps {
  entries: readonly Entry[];
  services: readonly ActiveService[];
  admin: boolean;
}

/** The rest of the navigation, where the bar has no room for it. */
function More({ entries, services, admin }: MoreProps) {
  const [open, setOpen] = useState(false);
  const [location] = useLocation();
  const close = () => setOpen(false);
  const current = entries.some((entry) => isCurrent(entry, location));
  return (
    <li>
      <button
        type="button"
        aria-haspopup="dialog"
        onClick={() => setOpen(true)}
        className={`${SMALL} w-full cursor-pointer ${current ? 'text-accent' : 'text-muted hover:text-ink'}`}
      >
        <Ellipsis aria-hidden className="size-5 shrink-0" />
        {t.nav.more}
      </button>
      {open && (
        <Dialog title={t.nav.more} onClose={close}>
          <nav aria-label={t.nav.more}>
            <ul className="flex flex-col gap-1">
              {entries.map((entry) => (
                <NavLink key={entry.path} entry={entry} onGo={close} wide />
              ))}
            </ul>
            <ServiceLinks services={services} admin={admin} onGo={close} />
          </nav>
        </Dialog>
      )}
    </li>
  );
}

const SMALL =
  'flex min-h-14 flex-col items-center justify-center gap-0.5 font-medium text-[0.6875rem] -outline-offset-2 focus-visible:outline-2 focus-visible:outline-accent';

function isCurrent({ path, also = [] }: Entry, location: string): boolean {
  if (path === paths.home) return location === path;
  return [path, ...also].some((one) => location === one || location.startsWith(`${one}/`));
}

function NavLink({ entry, wide = false, onGo }: { entry: Entry; wide?: boolean; onGo?: () => void }) {
  const { path, label, Icon } = entry;
  const [location] = useLocation();
  const current = isCurrent(entry, location);
  const shape = wide ? 'flex min-h-11 items-center gap-3 rounded-xl px-3 font-medium text-sm' : SMALL;
  const look = current ? `text-accent ${wide ? 'bg-accent-soft' : ''}` : 'text-muted hover:text-ink';
  return (
    <li>
      <Link
        href={path}
        aria-current={current ? 'page' : undefined}
        onClick={onGo}
        className={`${shape} ${look} focus-visible:outline-2 focus-visible:outline-accent`}
      >
        <Icon aria-hidden className="size-5 shrink-0" />
        <span className="max-w-full truncate">{label}</span>
      </Link>
    </li>
  );
}

/** Lies over the page, so that nothing jumps when it comes and goes. */
function LiveBanner({ live }: { live: LiveState }) {
  return (
    <div
      role="status"
      className="pointer-events-none fixed inset-x-0 bottom-18 z-30 flex justify-center px-4 md:bottom-6"
    >
      {live.kind === 'lost' && (
        <p className="rounded-xl border border-line bg-warn-soft px-4 py-2.5 font-medium text-sm text-warn shadow-dialog">
          {t.live.lost(formatClock(live.since))}
        </p>
      )}
    </div>
  );
}
