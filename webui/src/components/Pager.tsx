/** Back and forth between the pages of a long list. */

import { t } from '../i18n';
import { Button } from './Button';

interface PagerProps {
  /** From 0. */
  at: number;
  pages: number;
  onPage: (page: number) => void;
}

/** Back and forth between pages of a list; nothing where there is one. */
export function Pager({ at, pages, onPage }: PagerProps) {
  if (pages <= 1) return null;
  return (
    <div className="flex flex-wrap items-center gap-3">
      <Button disabled={at === 0} onClick={() => onPage(at - 1)}>
        {t.devices.previous}
      </Button>
      <span className="text-muted text-sm">{t.devices.page(at + 1, pages)}</span>
      <Button disabled={at + 1 >= pages} onClick={() => onPage(at + 1)}>
        {t.devices.next}
      </Button>
    </div>
  );
}
