/** Is all well, who is on, what changed. */

import { useQuery } from '@tanstack/react-query';
import { CircleAlert, CircleCheck, LoaderCircle, Plus, Smartphone } from 'lucide-react';
import { Link } from 'wouter';
import { peersQuery, statusQuery } from '../api/queries';
import type { Peer, Status } from '../api/types';
import { Button } from '../components/Button';
import { Card } from '../components/Card';
import { Daemons } from '../components/Daemons';
import { Presence } from '../components/Presence';
import { RecentChanges } from '../components/RecentChanges';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { presenceOf } from '../lib/activity';
import { useServerNow } from '../lib/clock';
import { formatAge, formatCount } from '../lib/format';
import { type Health, healthOf } from '../lib/health';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';

export default function Home({ onAddDevice }: { onAddDevice: () => void }) {
  useTitle(t.home.title);
  const status = useQuery(statusQuery);
  return (
    <>
      <h1 className="sr-only">{t.home.title}</h1>
      <Loaded query={status} rows={5}>
        {(data) => (
          <div className="flex flex-col gap-5">
            <Verdict health={healthOf(data)} />
            {data.peer_count === 0 ? (
              <NoDevices onAddDevice={onAddDevice} />
            ) : (
              <div className="grid gap-5 md:grid-cols-2">
                <DevicesOn status={data} />
                <Network status={data} />
              </div>
            )}
            <div className="grid items-start gap-5 lg:grid-cols-2">
              <Daemons daemons={data.daemons} />
              <RecentChanges />
            </div>
          </div>
        )}
      </Loaded>
    </>
  );
}

const VERDICTS = {
  good: { Icon: CircleCheck, look: 'bg-good-soft text-good', text: t.home.allWellText },
  busy: { Icon: LoaderCircle, look: 'bg-accent-soft text-accent', text: t.home.applyingText },
  bad: { Icon: CircleAlert, look: 'bg-warn-soft text-warn', text: '' },
};

function Verdict({ health }: { health: Health }) {
  const { Icon, look, text } = VERDICTS[health.level];
  return (
    <section aria-live="polite" className="flex items-start gap-4 py-1 sm:items-center">
      <div className={`flex size-14 shrink-0 items-center justify-center rounded-2xl ${look}`}>
        <Icon aria-hidden className="size-7" />
      </div>
      <div className="min-w-0">
        <p className="font-semibold text-2xl tracking-tight sm:text-3xl">{health.sentence}</p>
        {text && <p className="mt-1 text-muted">{text}</p>}
        <ul className="mt-1 flex flex-col gap-1 empty:hidden">
          {health.problems.map((problem) => (
            <li key={problem.text} className="text-muted">
              {problem.text}
            </li>
          ))}
        </ul>
      </div>
    </section>
  );
}

function NoDevices({ onAddDevice }: { onAddDevice: () => void }) {
  return (
    <Empty icon={<Smartphone aria-hidden className="size-7" />} title={t.home.noDevices} text={t.home.noDevicesText}>
      <Button kind="primary" onClick={onAddDevice}>
        <Plus aria-hidden className="size-4" />
        {t.nav.addDevice}
      </Button>
    </Empty>
  );
}

function DevicesOn({ status }: { status: Status }) {
  const on = status.connected_peer_count;
  // For three names; where there are thousands, they are looked for on their own page.
  const peers = useQuery({ ...peersQuery, enabled: status.peer_count <= GLANCE });
  return (
    <Card title={t.home.devicesOn}>
      {on === null ? (
        <p className="text-muted">{t.home.devicesUnknown}</p>
      ) : (
        <Link
          href={`${paths.devices}?state=on`}
          className="inline-flex items-baseline gap-2 rounded-lg hover:text-accent focus-visible:outline-2 focus-visible:outline-accent focus-visible:outline-offset-4 in-data-[live=lost]:text-muted"
        >
          <span className="sr-only">{t.home.devicesOn}: </span>
          <span className="font-semibold text-5xl tabular-nums tracking-tight">{formatCount(on)}</span>{' '}
          <span className="text-lg text-muted">{t.home.of(formatCount(status.peer_count))}</span>
          <span className="sr-only">. {t.home.showDevices}</span>
        </Link>
      )}
      <Latest peers={peers.data ?? []} />
    </Card>
  );
}

const LATEST = 3;
const GLANCE = 1000;

function Latest({ peers }: { peers: Peer[] }) {
  const now = useServerNow();
  const seen = peers
    .filter((peer) => peer.activity?.latest_handshake_at)
    .sort((a, b) => handshake(b) - handshake(a))
    .slice(0, LATEST);
  if (seen.length === 0) return null;
  return (
    <>
      <h3 className="sr-only">{t.home.latest}</h3>
      <ul className="mt-4 divide-y divide-line border-line border-t">
        {seen.map((peer) => (
          <li key={peer.name}>
            <Link
              href={paths.device(peer.name)}
              className="flex min-h-12 flex-wrap items-center justify-between gap-x-4 rounded-lg py-2 hover:text-accent focus-visible:outline-2 focus-visible:outline-accent"
            >
              <span className="min-w-0 break-words font-medium">{peer.name}</span>
              <Presence presence={presenceOf(peer, now)} />
            </Link>
          </li>
        ))}
      </ul>
    </>
  );
}

function handshake(peer: Peer): number {
  return Date.parse(peer.activity?.latest_handshake_at ?? '');
}

function Network({ status }: { status: Status }) {
  const converged = status.observed_generation >= status.generation;
  return (
    <Card title={t.home.network}>
      <p className="font-semibold text-2xl tracking-tight">{converged ? t.home.converged : t.home.behind}</p>
      <p className="mt-1 text-muted">
        {t.home.generation(formatCount(status.observed_generation), formatCount(status.generation))}
      </p>
      <p className="mt-6 text-muted text-sm">
        <span className="font-mono">{status.domain}</span> · {t.home.version(status.version)} ·{' '}
        {t.home.up(formatAge(status.uptime_seconds))}
      </p>
    </Card>
  );
}
