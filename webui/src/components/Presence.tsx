/** Whether a device is on: by dot, word and age, never by colour alone. */

import { t } from '../i18n';
import type { Presence as State } from '../lib/activity';
import { formatAge } from '../lib/format';

const LOOK: Record<State['state'], { dot: string; word: string }> = {
  connected: { dot: 'bg-good', word: t.devices.connected },
  away: { dot: 'border-2 border-edge', word: t.devices.away },
  never: { dot: 'border-2 border-line', word: t.devices.never },
  unknown: { dot: 'bg-warn', word: t.devices.unknownState },
};

/** `stacked`: the age below, where there is little width. */
export function Presence({ presence, stacked = false }: { presence: State; stacked?: boolean }) {
  const { dot, word } = LOOK[presence.state];
  return (
    <span className="inline-flex items-center gap-2 whitespace-nowrap in-data-[live=lost]:text-muted">
      <span aria-hidden className={`size-2.5 shrink-0 rounded-full ${dot} in-data-[live=lost]:bg-edge`} />
      <span className={stacked ? 'flex flex-col' : 'inline-flex items-baseline gap-2'}>
        {word}
        {'ageSeconds' in presence && (
          <span className={`text-muted ${stacked ? 'text-xs' : 'text-sm'}`}>
            {t.devices.seen(formatAge(presence.ageSeconds))}
          </span>
        )}
      </span>
    </span>
  );
}
