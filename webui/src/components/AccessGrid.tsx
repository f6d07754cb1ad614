/** Devices by services: one stop of the tab key, moved through by arrows, switched by the space bar. */

import { type KeyboardEvent, memo, type ReactNode, useRef, useState } from 'react';
import { Link } from 'wouter';
import type { Service } from '../api/types';
import { s } from '../i18n/services';
import type { Turn } from '../lib/access';
import { type Place, placeAfter } from '../lib/gridKeys';
import { paths } from '../lib/paths';
import type { AccessSwitches } from '../lib/useAccess';

interface Props {
  services: readonly Service[];
  /** Names of devices: those of this page. */
  devices: readonly string[];
  access: AccessSwitches;
}

/** More columns than this are headed by words that stand upright. */
const WIDE = 6;

export function AccessGrid({ services, devices, access }: Props) {
  const table = useRef<HTMLTableElement>(null);
  const [at, setAt] = useState<Place>({ row: 0, column: 0 });
  const rows = devices.length + 1;
  // The page may have fewer than the one before.
  const place = { row: Math.min(at.row, rows - 1), column: Math.min(at.column, services.length - 1) };
  const onKeyDown = (event: KeyboardEvent) => {
    if (!(event.target instanceof HTMLInputElement)) return;
    const to = placeAfter(event.key, event.ctrlKey, place, rows, services.length);
    if (!to) return;
    event.preventDefault();
    table.current?.querySelector<HTMLInputElement>(`[data-place="${to.row}-${to.column}"]`)?.focus();
  };
  const shown = services.map((service) => access.shown(service));
  const cell = (row: number, column: number) => ({
    row,
    column,
    reached: place.row === row && place.column === column,
    onReach: setAt,
    onTurn: access.turn,
  });
  return (
    <table
      ref={table}
      // biome-ignore lint/a11y/noNoninteractiveElementToInteractiveRole: a table that is moved through cell by cell is a grid
      role="grid"
      aria-label={s.matrix.label}
      onKeyDown={onKeyDown}
      className="border-separate border-spacing-0"
    >
      <Head services={services} />
      <tbody>
        <tr>
          <RowHead>
            <span className="font-semibold">{s.matrix.everyone}</span>
          </RowHead>
          {services.map((service, column) => (
            <Cell
              key={service.name}
              {...cell(0, column)}
              service={service.name}
              device={undefined}
              label={s.matrix.everyCell(service.title)}
              checked={shown[column]?.everyone ?? false}
              fixed={false}
            />
          ))}
        </tr>
        {devices.map((device, i) => (
          <tr key={device}>
            <RowHead>
              <Link
                href={paths.device(device)}
                className="hover:underline focus-visible:outline-2 focus-visible:outline-accent"
              >
                {device}
              </Link>
            </RowHead>
            {services.map((service, column) => {
              const { everyone = false, peers } = shown[column] ?? {};
              const words = everyone ? s.matrix.byAll : s.matrix.cell;
              return (
                <Cell
                  key={service.name}
                  {...cell(i + 1, column)}
                  service={service.name}
                  device={device}
                  label={words(device, service.title)}
                  checked={everyone || (peers?.has(device) ?? false)}
                  fixed={everyone}
                />
              );
            })}
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Head({ services }: { services: readonly Service[] }) {
  const upright = services.length > WIDE;
  return (
    <thead>
      <tr>
        <th
          scope="col"
          className="sticky start-0 top-0 z-20 min-w-32 border-line border-b bg-card px-4 py-2 text-start align-bottom text-muted text-sm"
        >
          {s.matrix.device}
        </th>
        {services.map((service) => (
          <th
            key={service.name}
            scope="col"
            className="sticky top-0 z-10 border-line border-b bg-card px-2 py-2 align-bottom text-sm"
          >
            <Link
              href={paths.service(service.name)}
              title={service.title}
              className={`inline-block hover:underline focus-visible:outline-2 focus-visible:outline-accent ${
                upright ? 'max-h-40 rotate-180 truncate text-start [writing-mode:vertical-rl]' : 'max-w-32 break-words'
              }`}
            >
              {service.title}
            </Link>
          </th>
        ))}
      </tr>
    </thead>
  );
}

function RowHead({ children }: { children: ReactNode }) {
  return (
    <th
      scope="row"
      className="sticky start-0 z-10 max-w-40 break-words border-line border-b bg-card px-4 py-2 text-start font-medium text-sm sm:max-w-64"
    >
      {children}
    </th>
  );
}

interface CellProps extends Place {
  reached: boolean;
  onReach: (place: Place) => void;
  onTurn: (service: string, turn: Turn) => void;
  service: string;
  /** None: every device. */
  device: string | undefined;
  label: string;
  checked: boolean;
  /** It follows from the row of all devices. */
  fixed: boolean;
}

const Cell = memo(function Cell(props: CellProps) {
  const { row, column, reached, onReach, onTurn, service, device, label, checked, fixed } = props;
  const turn = (on: boolean) => {
    if (fixed) return;
    onTurn(service, device === undefined ? { everyone: on } : { peer: device, may: on });
  };
  return (
    <td className={`border-line border-b p-0 text-center ${row === 0 ? 'bg-hover' : ''}`}>
      <input
        type="checkbox"
        aria-label={label}
        aria-disabled={fixed || undefined}
        title={label}
        data-place={`${row}-${column}`}
        tabIndex={reached ? 0 : -1}
        checked={checked}
        onFocus={() => onReach({ row, column })}
        onChange={(event) => turn(event.target.checked)}
        className={`m-3 size-5 align-middle accent-accent focus-visible:outline-2 focus-visible:outline-accent focus-visible:outline-offset-2 ${fixed ? 'cursor-not-allowed opacity-50' : 'cursor-pointer'}`}
      />
    </td>
  );
});
