/** What is being done with a service, step by step, with bytes while something is fetched; or why it went no further. */

import { Check, Circle, LoaderCircle } from 'lucide-react';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import { formatBytes } from '../lib/format';
import { isUnderWay, stepsOf } from '../lib/services';

/** `brief`: the step that is under way alone. */
export function ServiceProgress({ service, brief = false }: { service: Service; brief?: boolean }) {
  return (
    <div className="flex flex-col gap-3 empty:hidden">
      {isUnderWay(service) && (brief ? <Now service={service} /> : <Steps service={service} />)}
      {isUnderWay(service) && <Bytes service={service} />}
      <Why service={service} />
    </div>
  );
}

function Now({ service }: { service: Service }) {
  const { steps, at } = stepsOf(service);
  return (
    <p className="text-muted text-sm">
      {s.progress.step(Math.max(at, 0) + 1, Math.max(steps.length, 1), s.steps[service.step] ?? service.step)}
    </p>
  );
}

function Steps({ service }: { service: Service }) {
  const { steps, at } = stepsOf(service);
  return (
    <ol aria-label={s.progress.label} className="flex flex-col gap-2">
      {steps.map((step, i) => {
        const where = i < at ? 'done' : i === at ? 'now' : 'next';
        const Icon = { done: Check, now: LoaderCircle, next: Circle }[where];
        const look = { done: 'text-good', now: 'text-accent', next: 'text-edge' }[where];
        const spins = where === 'now' && !service.waiting ? 'animate-spin motion-reduce:animate-none' : '';
        return (
          <li
            key={step}
            aria-current={where === 'now' ? 'step' : undefined}
            className={`flex items-center gap-3 ${where === 'next' ? 'text-muted' : ''}`}
          >
            <Icon aria-hidden className={`size-4 shrink-0 ${look} ${spins}`} />
            <span className={where === 'now' ? 'font-medium' : ''}>{s.steps[step] ?? step}</span>
            <span className="sr-only">{s.step[where]}</span>
          </li>
        );
      })}
    </ol>
  );
}

const BAR =
  'h-2 w-full min-w-0 flex-1 appearance-none overflow-hidden rounded-full bg-hover text-accent ' +
  '[&::-moz-progress-bar]:bg-accent [&::-webkit-progress-bar]:bg-hover [&::-webkit-progress-value]:bg-accent ' +
  'forced-colors:appearance-auto';

function Bytes({ service: { progress } }: { service: Service }) {
  if (!progress) return null;
  const { image, status, current_bytes: current, total_bytes: total } = progress;
  return (
    <div className="min-w-0 text-sm">
      <p className="break-words">
        {s.progress.image(image)} <span className="text-muted">{status}</span>
      </p>
      {total > 0 && (
        <div className="mt-1 flex items-center gap-3">
          <progress aria-label={s.progress.image(image)} value={Math.min(current, total)} max={total} className={BAR} />
          <span className="shrink-0 text-muted tabular-nums">
            {s.progress.bytes(formatBytes(current), formatBytes(total))}
          </span>
        </div>
      )}
    </div>
  );
}

function Why({ service: { phase, step, waiting, error } }: { service: Service }) {
  return (
    <>
      {waiting && (
        <p className="break-words rounded-xl bg-warn-soft p-3 text-sm text-warn">
          {s.progress.waits(s.noDocker.reason[waiting.code] ?? waiting.message)}
        </p>
      )}
      {error && (
        <div className="break-words rounded-xl bg-bad-soft p-3 text-bad text-sm">
          {phase === 'failed' && <p className="font-medium">{s.failed[step] ?? s.state.failed}</p>}
          <p className="first-letter:uppercase">{s.noDocker.reason[error.code] ?? error.message}</p>
        </div>
      )}
    </>
  );
}
