/** Installed services in the navigation: they come and go by themselves. */

import { useQuery, useQueryClient } from '@tanstack/react-query';
import { AppWindow, ExternalLink } from 'lucide-react';
import { useEffect } from 'react';
import { Link } from 'wouter';
import { SERVICES_CHANGED } from '../api/live';
import { activeServicesQuery } from '../api/queries';
import type { ActiveService } from '../api/types';
import { t } from '../i18n';
import { paths } from '../lib/paths';

/** For administrators, who have the event stream, `live`; others ask again and again. */
export function useActiveServices(live: boolean): readonly ActiveService[] {
  const queries = useQueryClient();
  useEffect(() => {
    const ask = () => void queries.invalidateQueries({ queryKey: activeServicesQuery(live).queryKey });
    window.addEventListener(SERVICES_CHANGED, ask);
    return () => window.removeEventListener(SERVICES_CHANGED, ask);
  }, [queries, live]);
  return useQuery(activeServicesQuery(live)).data ?? [];
}

interface Props {
  services: readonly ActiveService[];
  /** Has pages of services: leads there where a browser cannot open the service itself. */
  admin: boolean;
  onGo?: () => void;
}

export function ServiceLinks({ services, admin, onGo }: Props) {
  const shown = services.filter((one) => one.url || admin);
  if (shown.length === 0) return null;
  const look =
    'flex min-h-11 items-center gap-3 rounded-xl px-3 text-sm text-muted hover:text-ink focus-visible:outline-2 focus-visible:outline-accent md:min-h-9';
  return (
    <ul aria-label={t.nav.running} className="flex flex-col">
      {shown.map(({ name, title, url }) => (
        <li key={name}>
          {url ? (
            <a href={url} target="_blank" rel="noreferrer" onClick={onGo} className={look}>
              <ExternalLink aria-hidden className="size-4 shrink-0" />
              <span className="min-w-0 truncate">{title}</span>
              <span className="sr-only"> {t.nav.opens}</span>
            </a>
          ) : (
            <Link href={paths.service(name)} onClick={onGo} className={look}>
              <AppWindow aria-hidden className="size-4 shrink-0" />
              <span className="min-w-0 truncate">{title}</span>
            </Link>
          )}
        </li>
      ))}
    </ul>
  );
}
