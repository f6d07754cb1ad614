/** Tries a service, end to end, and says which step does not hold. */

import { CircleCheck, CircleX } from 'lucide-react';
import { useState } from 'react';
import { data, sdk } from '../api/client';
import type { ServiceCheck } from '../api/types';
import { s } from '../i18n/services';
import { formatCount } from '../lib/format';
import { useAction } from '../lib/useAction';
import { Button } from './Button';
import { ErrorNote } from './ErrorNote';

export function ServiceTest({ service }: { service: string }) {
  const action = useAction();
  const [checks, setChecks] = useState<ServiceCheck[]>();
  const run = () => action.run(async () => setChecks((await data(sdk.testService({ path: { service } }))).checks));
  const failed = checks?.filter((check) => !check.ok).length ?? 0;
  return (
    <div className="flex flex-col gap-3">
      <p className="text-muted text-sm">{s.test.text}</p>
      <ErrorNote error={action.error} />
      <p role="status" className={`font-medium empty:hidden ${failed > 0 ? 'text-bad' : 'text-good'}`}>
        {checks && (failed > 0 ? s.test.bad(failed) : s.test.good)}
      </p>
      {checks && (
        <ul aria-label={s.test.list} className="divide-y divide-line">
          {checks.map((check) => (
            <One key={`${check.name} ${check.detail}`} check={check} />
          ))}
        </ul>
      )}
      <Button className="self-start" pending={action.pending} onClick={() => void run()}>
        {action.pending ? s.test.running : checks ? s.test.again : s.test.run}
      </Button>
    </div>
  );
}

function One({ check: { name, ok, detail, ms } }: { check: ServiceCheck }) {
  const Icon = ok ? CircleCheck : CircleX;
  return (
    <li className="flex items-start gap-3 py-2">
      <Icon aria-hidden className={`mt-0.5 size-4 shrink-0 ${ok ? 'text-good' : 'text-bad'}`} />
      <div className="min-w-0 flex-1">
        <p className="flex flex-wrap justify-between gap-x-4">
          <span className="break-words font-medium">
            {s.checks[name] ?? name} <span className="sr-only">{ok ? s.test.ok : s.test.fails}</span>
          </span>
          <span className="text-muted text-sm tabular-nums">{s.test.ms(formatCount(ms))}</span>
        </p>
        {detail && <p className="break-words text-muted text-sm first-letter:uppercase">{detail}</p>}
      </div>
    </li>
  );
}
