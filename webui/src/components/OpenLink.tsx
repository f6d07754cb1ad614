import { ExternalLink } from 'lucide-react';
import { s } from '../i18n/services';
import { buttonClass } from './Button';

/** Leads to a service itself, beside this page. */
export function OpenLink({ url, title }: { url: string; title: string }) {
  return (
    <a href={url} target="_blank" rel="noreferrer" aria-label={s.list.openIn(title)} className={buttonClass('primary')}>
      <ExternalLink aria-hidden className="size-4" />
      {s.list.open}
    </a>
  );
}
