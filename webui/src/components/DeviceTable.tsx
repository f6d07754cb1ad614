/** A table on wide screens, cards with the same data on narrow ones. */

import { ArrowDown, ArrowUp } from 'lucide-react';
import { Link } from 'wouter';
import type { Peer } from '../api/types';
import { t } from '../i18n';
import { presenceOf } from '../lib/activity';
import { COLUMNS, type Column, type View } from '../lib/deviceList';
import { formatBytes, formatDay } from '../lib/format';
import { paths } from '../lib/paths';
import { AccessSummary } from './AccessSummary';
import { Presence } from './Presence';

interface Props {
  peers: Peer[];
  view: View;
  now: number;
  onSort: (column: Column) => void;
}

export function DeviceTable(props: Props) {
  return (
    <>
      <div className="hidden overflow-hidden rounded-2xl border border-line bg-card shadow-card xl:block">
        <Table {...props} />
      </div>
      <ul className="grid gap-3 md:grid-cols-2 xl:hidden">
        {props.peers.map((peer) => (
          <DeviceCard key={peer.name} peer={peer} now={props.now} />
        ))}
      </ul>
    </>
  );
}

function Table({ peers, view, now, onSort }: Props) {
  return (
    <table className="w-full text-start text-sm">
      <thead className="border-line border-b bg-hover">
        <tr>
          {COLUMNS.map((column) => (
            <HeadCell key={column} column={column} view={view} onSort={onSort} />
          ))}
        </tr>
      </thead>
      <tbody className="divide-y divide-line">
        {peers.map((peer) => (
          <tr key={peer.name} className="relative hover:bg-hover">
            <th scope="row" className="min-w-44 max-w-64 px-4 py-3.5 text-start font-medium">
              <DeviceLink name={peer.name} />
              {peer.config_needs_reinstall && <Reinstall />}
            </th>
            <td className="px-4 py-3.5">
              <Presence stacked presence={presenceOf(peer, now)} />
            </td>
            <td className="px-4 py-3.5 font-mono text-xs">
              {peer.ipv4}
              <span className="block text-muted">{peer.ipv6}</span>
            </td>
            <td className="min-w-48 px-4 py-3.5">
              <AccessSummary access={peer.access} />
            </td>
            <td className="px-4 py-3.5">
              <Traffic stacked peer={peer} />
            </td>
            <td className="whitespace-nowrap px-4 py-3.5 text-muted">{formatDay(peer.created_at)}</td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function HeadCell({ column, view, onSort }: Pick<Props, 'view' | 'onSort'> & { column: Column }) {
  const current = view.sort === column;
  const Arrow = view.descending ? ArrowDown : ArrowUp;
  return (
    <th
      scope="col"
      aria-sort={current ? (view.descending ? 'descending' : 'ascending') : undefined}
      className="p-0 text-start font-medium text-muted"
    >
      <button
        type="button"
        onClick={() => onSort(column)}
        title={t.devices.sortedBy(t.devices[column])}
        className={`inline-flex min-h-11 w-full cursor-pointer items-center gap-1 whitespace-nowrap px-4 -outline-offset-2 hover:text-ink focus-visible:outline-2 focus-visible:outline-accent ${current ? 'text-ink' : ''}`}
      >
        {t.devices[column]}
        <Arrow aria-hidden className={`size-3.5 ${current ? '' : 'invisible'}`} />
      </button>
    </th>
  );
}

function DeviceCard({ peer, now }: { peer: Peer; now: number }) {
  return (
    <li className="relative flex flex-col gap-2 rounded-2xl border border-line bg-card p-4 shadow-card">
      <div className="flex flex-wrap items-center justify-between gap-x-4 gap-y-1">
        <h2 className="min-w-0 break-words font-semibold">
          <DeviceLink name={peer.name} />
        </h2>
        <Presence presence={presenceOf(peer, now)} />
      </div>
      {peer.config_needs_reinstall && <Reinstall />}
      <p className="break-words font-mono text-xs">
        {peer.ipv4} <span className="text-muted">{peer.ipv6}</span>
      </p>
      <div className="my-1">
        <AccessSummary access={peer.access} />
      </div>
      <p className="mt-auto flex flex-wrap justify-between gap-x-4 border-line border-t pt-2.5 text-muted text-sm">
        <Traffic peer={peer} />
        <span>{t.devices.addedOn(formatDay(peer.created_at))}</span>
      </p>
    </li>
  );
}

/** Covers its row or card, so that the whole of it can be tapped. */
function DeviceLink({ name }: { name: string }) {
  return (
    <Link
      href={paths.device(name)}
      className="break-words outline-none after:absolute after:inset-0 after:rounded-2xl focus-visible:after:outline-2 focus-visible:after:outline-accent focus-visible:after:-outline-offset-2"
    >
      {name}
    </Link>
  );
}

function Traffic({ peer, stacked = false }: { peer: Peer; stacked?: boolean }) {
  if (!peer.activity) return <span className="text-muted">{t.app.unknown}</span>;
  return (
    <span
      className={`inline-flex whitespace-nowrap tabular-nums in-data-[live=lost]:text-muted ${stacked ? 'flex-col' : 'gap-3'}`}
    >
      <span>
        <span className="sr-only">{t.devices.received} </span>
        <span aria-hidden>↑ </span>
        {formatBytes(peer.activity.received_bytes)}
      </span>
      <span>
        <span className="sr-only">{t.devices.sent} </span>
        <span aria-hidden>↓ </span>
        {formatBytes(peer.activity.sent_bytes)}
      </span>
    </span>
  );
}

function Reinstall() {
  return <span className="block font-normal text-warn text-xs">{t.devices.reinstall}</span>;
}
