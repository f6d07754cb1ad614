/** The rarely used part of adding a device: where its key comes from, and what its tunnel carries. */

import { useId } from 'react';
import { t } from '../i18n';
import { Disclosure } from './Disclosure';
import { Field, Select } from './Field';

export type KeyChoice = { kind: 'browser' } | { kind: 'paste'; publicKey: string } | { kind: 'server' };

const KINDS = [
  ['browser', t.add.keyBrowser, t.add.keyBrowserText],
  ['paste', t.add.keyPaste, t.add.keyPasteText],
  ['server', t.add.keyServer, t.add.keyServerText],
] as const;

export const TUNNELS = [
  ['full', t.device.tunnelFull],
  ['split', t.device.tunnelSplit],
] as const;

interface Props {
  choice: KeyChoice;
  onChoice: (choice: KeyChoice) => void;
  keyError: string | undefined;
  /** Empty: the server's choice. */
  tunnel: string;
  onTunnel: (tunnel: string) => void;
}

export function MoreOptions({ choice, onChoice, keyError, tunnel, onTunnel }: Props) {
  return (
    <Disclosure summary={t.add.advanced}>
      <div className="flex flex-col gap-5 pt-2">
        <fieldset>
          <legend className="mb-1 font-medium text-sm">{t.add.key}</legend>
          {KINDS.map(([kind, label, text]) => (
            <Radio
              key={kind}
              label={label}
              text={text}
              checked={choice.kind === kind}
              onSelect={() => onChoice(kind === 'paste' ? { kind, publicKey: '' } : { kind })}
            />
          ))}
        </fieldset>
        {choice.kind === 'paste' && (
          <Field
            label={t.add.publicKey}
            error={keyError}
            value={choice.publicKey}
            onChange={(event) => onChoice({ kind: 'paste', publicKey: event.target.value.trim() })}
            maxLength={64}
            autoComplete="off"
            spellCheck={false}
            required
            mono
          />
        )}
        <Select
          label={t.access.tunnel}
          options={[['', t.access.tunnelAuto], ...TUNNELS]}
          value={tunnel}
          onChange={(event) => onTunnel(event.target.value)}
        />
      </div>
    </Disclosure>
  );
}

function Radio(props: { label: string; text: string; checked: boolean; onSelect: () => void }) {
  const id = useId();
  return (
    <div className="flex gap-3 py-2">
      <input
        id={id}
        type="radio"
        name="key"
        checked={props.checked}
        onChange={props.onSelect}
        aria-describedby={`${id}-text`}
        className="mt-0.5 size-5 shrink-0 cursor-pointer accent-accent"
      />
      <div>
        <label htmlFor={id} className="cursor-pointer text-sm">
          {props.label}
        </label>
        <p id={`${id}-text`} className="text-muted text-sm">
          {props.text}
        </p>
      </div>
    </div>
  );
}
