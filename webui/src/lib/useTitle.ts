import { useEffect } from 'react';
import { t } from '../i18n';

/** The window's title: the page, then the program. */
export function useTitle(page: string): void {
  useEffect(() => {
    document.title = `${page} · ${t.app.name}`;
  }, [page]);
}
