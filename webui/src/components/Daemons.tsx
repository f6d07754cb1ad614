/** The parts of the cell and what each says of itself. */

import type { Status } from '../api/types';
import { t } from '../i18n';
import { partLevel } from '../lib/health';
import { Card } from './Card';
import { Disclosure } from './Disclosure';

type Daemon = Status['daemons'][number];

const LOOKS = {
  good: { dot: 'bg-good', text: 'text-good', word: t.home.answers },
  care: { dot: 'bg-warn', text: 'text-warn', word: t.home.care },
  silent: { dot: 'bg-bad', text: 'text-bad', word: t.home.silent },
} as const;

export function Daemons({ daemons }: { daemons: Daemon[] }) {
  return (
    <Card title={t.home.parts}>
      <ul className="-my-2 divide-y divide-line">
        {daemons.map((daemon) => (
          <li key={daemon.name} className="py-2">
            <Part daemon={daemon} />
          </li>
        ))}
      </ul>
    </Card>
  );
}

function Part({ daemon }: { daemon: Daemon }) {
  const { dot, text, word } = LOOKS[partLevel(daemon)];
  const name = t.daemons[daemon.name as keyof typeof t.daemons] ?? daemon.name;
  return (
    <Disclosure
      summary={
        <>
          <span className="text-base">{name}</span>
          <span className={`ms-auto inline-flex items-center gap-2 ${text}`}>
            <span aria-hidden className={`size-2.5 rounded-full ${dot}`} />
            {word}
          </span>
        </>
      }
    >
      <ul className="flex flex-col gap-3 ps-6 pt-1 pb-3">
        {daemon.conditions.map((condition) => (
          <li key={condition.type} className="text-sm">
            <p className="flex flex-wrap justify-between gap-x-3">
              <span className="font-medium">{t.home.conditionName[condition.type] ?? condition.type}</span>
              <span>{t.home.conditionState[condition.status] ?? condition.status}</span>
            </p>
            <p className="break-words text-muted first-letter:uppercase">{condition.message || condition.reason}</p>
          </li>
        ))}
        {daemon.conditions.length === 0 && <li className="text-muted text-sm">{t.home.conditions(0)}</li>}
      </ul>
    </Disclosure>
  );
}
