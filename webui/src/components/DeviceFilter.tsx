import { ArrowDownUp } from 'lucide-react';
import { t } from '../i18n';
import { ACCESSES, COLUMNS, STATES, type View } from '../lib/deviceList';
import { Button } from './Button';
import { Field, Select } from './Field';

const STATE_OPTIONS = [
  ['', t.devices.any] as const,
  ...STATES.map((s) => [s, t.devices.stateOptions[s] ?? s] as const),
];
const ACCESS_OPTIONS = [
  ['', t.devices.any] as const,
  ...ACCESSES.map((a) => [a, t.devices.accessOptions[a] ?? a] as const),
];
const SORT_OPTIONS = COLUMNS.map((column) => [column, t.devices[column]] as const);

/** Narrow screens have no column heads, so they get the order here. */
export function DeviceFilter({ view, onChange }: { view: View; onChange: (part: Partial<View>) => void }) {
  return (
    <search className="grid grid-cols-2 gap-3 lg:grid-cols-[1fr_12rem_12rem]">
      <div className="col-span-2 lg:col-span-1">
        <Field
          label={t.devices.filter}
          type="search"
          placeholder={t.devices.filterPlaceholder}
          value={view.text}
          onChange={(event) => onChange({ text: event.target.value })}
          autoComplete="off"
          autoCapitalize="off"
          spellCheck={false}
        />
      </div>
      <Select
        label={t.devices.filterState}
        options={STATE_OPTIONS}
        value={view.state ?? ''}
        onChange={(event) => onChange({ state: STATES.find((s) => s === event.target.value) })}
      />
      <Select
        label={t.devices.filterAccess}
        options={ACCESS_OPTIONS}
        value={view.access ?? ''}
        onChange={(event) => onChange({ access: ACCESSES.find((a) => a === event.target.value) })}
      />
      <div className="col-span-2 flex items-end gap-3 lg:col-span-3 xl:hidden">
        <div className="flex-1">
          <Select
            label={t.devices.sortBy}
            options={SORT_OPTIONS}
            value={view.sort}
            onChange={(event) => onChange({ sort: COLUMNS.find((c) => c === event.target.value) ?? 'name' })}
          />
        </div>
        <Button onClick={() => onChange({ descending: !view.descending })}>
          <ArrowDownUp aria-hidden className="size-4" />
          {view.descending ? t.devices.descending : t.devices.ascending}
        </Button>
      </div>
    </search>
  );
}
