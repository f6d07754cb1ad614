/** Chooses devices, among a few or thousands: found by typing, a page at a time. */

import { useDeferredValue, useId, useState } from 'react';
import { t } from '../i18n';
import { s } from '../i18n/services';
import { Field, SWITCH } from './Field';
import { Pager } from './Pager';

const PAGE = 25;

interface Props {
  label: string;
  /** Names of all devices. */
  all: readonly string[];
  chosen: ReadonlySet<string>;
  onToggle: (name: string, chosen: boolean) => void;
  disabled?: boolean;
}

export function PeerPicker({ label, all, chosen, onToggle, disabled = false }: Props) {
  const [text, setText] = useState('');
  const [only, setOnly] = useState(false);
  const [page, setPage] = useState(0);
  const wanted = useDeferredValue(text).trim().toLowerCase();
  const onlyId = useId();
  if (all.length === 0) return <p className="text-muted text-sm">{s.access.noDevices}</p>;
  const found = all.filter((name) => name.toLowerCase().includes(wanted) && (!only || chosen.has(name)));
  const pages = Math.max(1, Math.ceil(found.length / PAGE));
  const at = Math.min(page, pages - 1);
  return (
    <div className="flex flex-col gap-3">
      {all.length > 8 && (
        <Field
          label={s.access.filter}
          type="search"
          value={text}
          placeholder={t.devices.name}
          onChange={(event) => {
            setText(event.target.value);
            setPage(0);
          }}
        />
      )}
      {all.length > PAGE && (
        <div className="flex min-h-11 items-center gap-3 md:min-h-8">
          <input
            id={onlyId}
            type="checkbox"
            checked={only}
            onChange={(event) => setOnly(event.target.checked)}
            className="size-5 cursor-pointer accent-accent"
          />
          <label htmlFor={onlyId} className="cursor-pointer text-sm">
            {s.access.onlyAllowed}
          </label>
        </div>
      )}
      <ul aria-label={label} className="divide-y divide-line">
        {found.slice(at * PAGE, (at + 1) * PAGE).map((name) => (
          <Row key={name} name={name} chosen={chosen.has(name)} onToggle={onToggle} disabled={disabled} />
        ))}
      </ul>
      {found.length === 0 && <p className="text-muted text-sm">{s.access.noMatch}</p>}
      <Pager at={at} pages={pages} onPage={setPage} />
    </div>
  );
}

interface RowProps {
  name: string;
  chosen: boolean;
  onToggle: (name: string, chosen: boolean) => void;
  disabled: boolean;
}

function Row({ name, chosen, onToggle, disabled }: RowProps) {
  const id = useId();
  return (
    <li className="flex min-h-11 items-center justify-between gap-4 py-1">
      <label htmlFor={id} className="min-w-0 flex-1 cursor-pointer break-words">
        {name}
      </label>
      <input
        id={id}
        type="checkbox"
        role="switch"
        checked={chosen}
        aria-checked={chosen}
        disabled={disabled}
        onChange={(event) => onToggle(name, event.target.checked)}
        className={SWITCH}
      />
    </li>
  );
}
