/** Whether an exit works: by sign, word and age, never by colour alone. */

import { CircleCheck, CircleQuestionMark, CircleX, type LucideIcon } from 'lucide-react';
import type { ConnectionStatus } from '../api/types';
import { t } from '../i18n';
import { useServerNow } from '../lib/clock';
import { formatAgo } from '../lib/format';

const UNKNOWN: { Icon: LucideIcon; look: string } = { Icon: CircleQuestionMark, look: 'text-muted' };
const LOOK: Record<string, { Icon: LucideIcon; look: string }> = {
  working: { Icon: CircleCheck, look: 'text-good' },
  down: { Icon: CircleX, look: 'text-bad' },
};

export function Health({ status }: { status: ConnectionStatus }) {
  const now = useServerNow();
  const { Icon, look } = LOOK[status.health] ?? UNKNOWN;
  const seconds = status.timestamp && Math.max(0, (now - Date.parse(status.timestamp)) / 1000);
  return (
    <span className="inline-flex items-baseline gap-2 in-data-[live=lost]:text-muted">
      <Icon aria-hidden className={`size-4 shrink-0 self-center ${look}`} />
      <span className="font-medium">{t.exits.health[status.health] ?? t.app.unknown}</span>
      {typeof seconds === 'number' && <span className="text-muted text-sm">{formatAgo(seconds)}</span>}
    </span>
  );
}

/** When something last came back through it: what "working" stands on. */
export function Proven({ at }: { at: string | null }) {
  const now = useServerNow();
  if (at === null) return null;
  const seconds = Math.max(0, (now - Date.parse(at)) / 1000);
  return <p className="text-muted text-sm in-data-[live=lost]:hidden">{t.exits.proven(formatAgo(seconds))}</p>;
}
