/** Devices and the exits that they use, a page at a time: there may be thousands. */

import { useDeferredValue, useState } from 'react';
import { Link } from 'wouter';
import type { Connection, Peer } from '../api/types';
import { t } from '../i18n';
import { paths } from '../lib/paths';
import { ExitChoice } from './ExitChoice';
import { Field } from './Field';
import { Pager } from './Pager';

const PAGE = 25;

export function ExitMatrix({ peers, connections }: { peers: readonly Peer[]; connections: readonly Connection[] }) {
  const [text, setText] = useState('');
  const [page, setPage] = useState(0);
  const wanted = useDeferredValue(text).trim().toLowerCase();
  if (peers.length === 0) return <p className="text-muted text-sm">{t.exits.noDevices}</p>;
  const found = peers.filter((peer) => peer.name.toLowerCase().includes(wanted));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  return (
    <div className="flex flex-col gap-4">
      <p className="text-muted text-sm">{t.exits.matrixText}</p>
      {peers.length > PAGE && (
        <Field
          label={t.devices.filter}
          value={text}
          placeholder={t.devices.name}
          onChange={(event) => {
            setText(event.target.value);
            setPage(0);
          }}
        />
      )}
      <ul className="divide-y divide-line">
        {found.slice(at * PAGE, (at + 1) * PAGE).map((peer) => (
          <li key={peer.name} aria-label={peer.name} className="grid gap-x-6 gap-y-2 py-4 md:grid-cols-[12rem_1fr]">
            <Link
              href={paths.device(peer.name)}
              className="inline-flex min-h-11 items-center break-words font-medium hover:underline focus-visible:outline-2 focus-visible:outline-accent md:min-h-10"
            >
              {peer.name}
            </Link>
            <ExitChoice peer={peer} connections={connections} />
          </li>
        ))}
      </ul>
      {found.length === 0 && <p className="text-muted text-sm">{t.devices.noMatch}</p>}
      <Pager at={at} pages={pages} onPage={setPage} />
    </div>
  );
}
