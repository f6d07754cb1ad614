/** How a service is: by sign and word, never by colour alone. */

import {
  CircleAlert,
  CircleCheck,
  CirclePause,
  CircleX,
  Clock,
  LoaderCircle,
  type LucideIcon,
  TriangleAlert,
} from 'lucide-react';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import { type State, stateOf } from '../lib/services';

const LOOKS: Record<State, { Icon: LucideIcon; look: string; spins?: true }> = {
  installing: { Icon: LoaderCircle, look: 'text-accent', spins: true },
  updating: { Icon: LoaderCircle, look: 'text-accent', spins: true },
  removing: { Icon: LoaderCircle, look: 'text-muted', spins: true },
  failed: { Icon: CircleX, look: 'text-bad' },
  stopped: { Icon: CirclePause, look: 'text-muted' },
  attention: { Icon: TriangleAlert, look: 'text-warn' },
  closed: { Icon: CircleAlert, look: 'text-warn' },
  running: { Icon: CircleCheck, look: 'text-good' },
};

export function ServiceState({ service }: { service: Service }) {
  const state = stateOf(service);
  // What waits does not turn.
  const { Icon, look, spins } = service.waiting ? { Icon: Clock, look: 'text-warn', spins: undefined } : LOOKS[state];
  return (
    <span className="inline-flex items-center gap-2 in-data-[live=lost]:text-muted">
      <Icon
        aria-hidden
        className={`size-4 shrink-0 ${look} ${spins ? 'animate-spin motion-reduce:animate-none' : ''}`}
      />
      <span className="font-medium">{s.state[state]}</span>
    </span>
  );
}
