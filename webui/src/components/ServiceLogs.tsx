/** The log of a service's container: live, paused, filtered; the last lines alone are kept. */

import { Pause, Play } from 'lucide-react';
import { useDeferredValue, useEffect, useRef, useState } from 'react';
import { s } from '../i18n/services';
import { formatCount } from '../lib/format';
import { filterLines, type Line, type Log, MOST_LINES } from '../lib/logLines';
import { type LiveLog, useLog } from '../lib/useLog';
import { Button } from './Button';
import { Field, Select } from './Field';

export function ServiceLogs({ service, containers }: { service: string; containers: readonly string[] }) {
  const [chosen, setChosen] = useState<string>();
  const container = chosen ?? containers[0];
  const live = useLog(service, container);
  const [held, setHeld] = useState<Log>();
  const [text, setText] = useState('');
  const log = held ?? live.log;
  const lines = filterLines(log.lines, useDeferredValue(text));
  const Icon = held ? Play : Pause;
  return (
    <div className="flex flex-col gap-3">
      <div className="flex flex-wrap items-end gap-3">
        {containers.length > 1 && (
          <Select
            label={s.logs.container}
            options={containers.map((name) => [name, name] as const)}
            value={container ?? ''}
            onChange={(event) => {
              setChosen(event.target.value);
              setHeld(undefined);
            }}
          />
        )}
        <div className="min-w-40 flex-1">
          <Field
            label={s.logs.filter}
            type="search"
            value={text}
            placeholder={s.logs.filterHelp}
            onChange={(event) => setText(event.target.value)}
          />
        </div>
        <Button onClick={() => setHeld(held ? undefined : live.log)}>
          <Icon aria-hidden className="size-4" />
          {held ? s.logs.resume : s.logs.pause}
        </Button>
      </div>
      <p className="text-muted text-sm">
        {[stateOf(live, held), s.logs.shown(formatCount(lines.length), formatCount(log.lines.length))].join(' · ')}
      </p>
      <Lines
        lines={lines}
        follow={held === undefined}
        label={s.logs.label(container ?? service)}
        empty={log.lines.length === 0 ? s.logs.empty : s.logs.noMatch}
      />
      {log.count > MOST_LINES && <p className="text-muted text-sm">{s.logs.bounded(formatCount(MOST_LINES))}</p>}
    </div>
  );
}

function stateOf({ mode, log, error }: LiveLog, held: Log | undefined): string {
  if (held) return s.logs.paused(Math.max(0, log.count - held.count));
  if (error) return s.logs.failed(error.message);
  return { connecting: s.logs.connecting, live: s.logs.live, polled: s.logs.polled }[mode];
}

interface LinesProps {
  lines: readonly Line[];
  follow: boolean;
  label: string;
  empty: string;
}

/** Stays at its end, unless somebody has scrolled up. */
function Lines({ lines, follow, label, empty }: LinesProps) {
  const box = useRef<HTMLElement>(null);
  const atEnd = useRef(true);
  // biome-ignore lint/correctness/useExhaustiveDependencies: the effect belongs to the change of lines
  useEffect(() => {
    if (box.current && follow && atEnd.current) box.current.scrollTop = box.current.scrollHeight;
  }, [lines, follow]);
  return (
    <section
      ref={box}
      aria-label={label}
      // biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by the keyboard (WCAG 2.1.1)
      tabIndex={0}
      onScroll={(event) => {
        const { scrollTop, scrollHeight, clientHeight } = event.currentTarget;
        atEnd.current = scrollHeight - scrollTop - clientHeight < 24;
      }}
      className="h-72 overflow-auto overscroll-contain rounded-xl border border-line bg-hover p-3 font-mono text-xs focus-visible:outline-2 focus-visible:outline-accent"
    >
      {lines.length === 0 && <p className="text-muted">{empty}</p>}
      {lines.map((line) => (
        <p key={line.n} className="whitespace-pre-wrap break-all">
          {line.text}
        </p>
      ))}
    </section>
  );
}
