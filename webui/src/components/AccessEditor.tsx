/** What a device may reach: two switches and a list of single services. */

import { Plus, Trash2 } from 'lucide-react';
import type { Access } from '../api/types';
import { t } from '../i18n';
import { Button } from './Button';
import { Field, Select, Switch } from './Field';

const MAX_SERVICES = 256;
const PROTOCOLS = [
  ['tcp', 'TCP'],
  ['udp', 'UDP'],
] as const;

interface Props {
  access: Access;
  onChange: (access: Access) => void;
  /** Complaints of the server by field, e.g. `access.services[0].port`. */
  errors: Record<string, string>;
}

export function AccessEditor({ access, onChange, errors }: Props) {
  const setService = (index: number, change: Partial<Access['services'][number]>) =>
    onChange({
      ...access,
      services: access.services.map((service, i) => (i === index ? { ...service, ...change } : service)),
    });
  return (
    <div className="divide-y divide-line">
      <Switch
        label={t.access.internet}
        help={t.access.internetText}
        checked={access.internet}
        onChange={(internet) => onChange({ ...access, internet })}
      />
      <Switch
        label={t.access.p2p}
        help={t.access.p2pText}
        checked={access.peer_to_peer}
        onChange={(peer_to_peer) => onChange({ ...access, peer_to_peer })}
      />
      <fieldset className="py-3">
        <legend className="float-start w-full font-medium">{t.access.services}</legend>
        <p className="clear-both text-muted text-sm">{t.access.servicesText}</p>
        {errors['access.services'] && <p className="text-bad text-sm">{errors['access.services']}</p>}
        <ul className="mt-2 flex flex-col gap-4">
          {access.services.map((service, index) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: rows have no other identity, and are edited in place
            <li key={index} className="grid gap-2 sm:grid-cols-[1fr_6rem_6rem_auto]">
              <div>
                <Field
                  label={t.access.address}
                  value={service.address}
                  onChange={(event) => setService(index, { address: event.target.value.trim() })}
                  error={errors[`access.services[${index}].address`]}
                  autoCapitalize="off"
                  spellCheck={false}
                  required
                  mono
                />
              </div>
              <div className="grid grid-cols-[1fr_1fr_auto] gap-2 sm:contents">
                <Select
                  label={t.access.protocol}
                  options={PROTOCOLS}
                  value={service.protocol}
                  onChange={(event) => setService(index, { protocol: event.target.value })}
                  error={errors[`access.services[${index}].protocol`]}
                />
                <Field
                  label={t.access.port}
                  type="number"
                  min={1}
                  max={65535}
                  required
                  value={service.port || ''}
                  onChange={(event) => setService(index, { port: event.target.valueAsNumber || 0 })}
                  error={errors[`access.services[${index}].port`]}
                />
                <Button
                  kind="quiet"
                  className="mt-6.5"
                  aria-label={t.access.removeService(index + 1)}
                  onClick={() => onChange({ ...access, services: access.services.filter((_, i) => i !== index) })}
                >
                  <Trash2 aria-hidden className="size-4" />
                </Button>
              </div>
            </li>
          ))}
        </ul>
        {access.services.length < MAX_SERVICES && (
          <Button
            className="mt-3"
            onClick={() =>
              onChange({ ...access, services: [...access.services, { address: '', protocol: 'tcp', port: 0 }] })
            }
          >
            <Plus aria-hidden className="size-4" />
            {t.access.addService}
          </Button>
        )}
      </fieldset>
    </div>
  );
}

/** Names of the editor's fields, so that a form knows which complaints are shown. */
export function accessFields(access: Access): string[] {
  const rows = access.services.flatMap((_, i) =>
    ['address', 'protocol', 'port'].map((name) => `access.services[${i}].${name}`),
  );
  return ['access.services', ...rows];
}
