/** One device: whether it is on, what it may reach, a new key, its removal. */

import { useQuery } from '@tanstack/react-query';
import { SearchX } from 'lucide-react';
import { Link } from 'wouter';
import { asApiError } from '../api/error';
import { peerQuery } from '../api/queries';
import type { Peer } from '../api/types';
import { BackLink } from '../components/BackLink';
import { buttonClass } from '../components/Button';
import { Card, Facts, PageHeader } from '../components/Card';
import { DeviceAccess } from '../components/DeviceAccess';
import { DeviceDanger } from '../components/DeviceDanger';
import { DeviceExit } from '../components/DeviceExit';
import { DeviceServices } from '../components/DeviceServices';
import { Presence } from '../components/Presence';
import { Empty, Loaded } from '../components/States';
import { t } from '../i18n';
import { presenceOf } from '../lib/activity';
import { useServerNow } from '../lib/clock';
import { formatBytes, formatDateTime } from '../lib/format';
import { paths } from '../lib/paths';
import { useTitle } from '../lib/useTitle';

export default function Device({ name }: { name: string }) {
  useTitle(name);
  const peer = useQuery(peerQuery(name));
  const gone = peer.error !== null && asApiError(peer.error).status === 404;
  return (
    <>
      <BackLink href={paths.devices}>{t.device.back}</BackLink>
      {gone ? <Gone /> : <Loaded query={peer}>{(data) => <Details peer={data} />}</Loaded>}
    </>
  );
}

function Gone() {
  return (
    <Empty alone icon={<SearchX aria-hidden className="size-7" />} title={t.device.gone} text={t.device.goneText}>
      <Link href={paths.devices} className={buttonClass()}>
        {t.device.back}
      </Link>
    </Empty>
  );
}

function Details({ peer }: { peer: Peer }) {
  const presence = presenceOf(peer, useServerNow());
  return (
    <>
      <PageHeader title={peer.name} text={<Presence presence={presence} />} />
      <div className="flex flex-col gap-5">
        {presence.state === 'never' && <Note calm>{t.device.neverText}</Note>}
        {peer.config_needs_reinstall && <Note>{t.device.reinstallText}</Note>}
        <div className="grid items-start gap-5 lg:grid-cols-2">
          <Card title={t.device.accessTitle}>
            <DeviceAccess peer={peer} />
          </Card>
          <div className="flex min-w-0 flex-col gap-5">
            <DeviceServices device={peer.name} />
            <Card title={t.device.status}>
              <Connection peer={peer} />
            </Card>
            <Card title={t.exits.device}>
              <DeviceExit peer={peer} />
            </Card>
            <Card title={t.device.danger}>
              <DeviceDanger peer={peer} />
            </Card>
          </div>
        </div>
      </div>
    </>
  );
}

function Note({ children, calm = false }: { children: string; calm?: boolean }) {
  const look = calm ? 'border border-line bg-card text-muted' : 'bg-warn-soft text-warn';
  return <p className={`rounded-xl p-4 text-sm ${look}`}>{children}</p>;
}

function Connection({ peer }: { peer: Peer }) {
  const activity = peer.activity;
  const unknown = <span className="text-muted">{t.app.unknown}</span>;
  const handshake = activity?.latest_handshake_at;
  const mono = (text: string) => <span className="break-all font-mono text-sm">{text}</span>;
  return (
    <div className="in-data-[live=lost]:text-muted">
      <Facts
        facts={[
          [t.device.handshake, activity ? (handshake ? formatDateTime(handshake) : t.device.noHandshake) : unknown],
          [t.device.source, activity ? mono(activity.endpoint ?? '–') : unknown],
          [t.devices.received, activity ? formatBytes(activity.received_bytes) : unknown],
          [t.devices.sent, activity ? formatBytes(activity.sent_bytes) : unknown],
          [
            t.devices.address,
            <span key="address" className="font-mono text-sm">
              {peer.ipv4}
              <br />
              {peer.ipv6}
            </span>,
          ],
          [t.devices.added, formatDateTime(peer.created_at)],
          [t.device.publicKey, mono(peer.public_key), true],
        ]}
      />
    </div>
  );
}
