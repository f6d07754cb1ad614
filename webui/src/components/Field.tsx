/** Labelled inputs: the label, the help and the complaint are tied to the input for everybody. */

import { ChevronDown, Eye, EyeOff } from 'lucide-react';
import { type InputHTMLAttributes, type ReactNode, type SelectHTMLAttributes, useId, useState } from 'react';
import { t } from '../i18n';
import { autofocusAttribute } from '../lib/autofocus';

export const INPUT =
  'min-h-11 w-full rounded-xl border border-edge bg-card px-3 text-base text-ink placeholder:text-muted ' +
  'focus-visible:border-accent focus-visible:outline-2 focus-visible:outline-accent ' +
  'aria-invalid:border-bad disabled:opacity-60';

/** A checkbox that looks like what it is: on or off, at once. */
export const SWITCH =
  'relative h-7 w-12 shrink-0 cursor-pointer appearance-none rounded-full border border-edge bg-hover ' +
  'transition-colors before:absolute before:start-0.5 before:top-0.5 before:size-5.5 before:rounded-full ' +
  'before:bg-edge before:transition-transform checked:border-accent checked:bg-accent checked:before:translate-x-5 ' +
  'checked:before:bg-on-accent focus-visible:outline-2 focus-visible:outline-accent focus-visible:outline-offset-2 ' +
  'disabled:cursor-not-allowed disabled:opacity-60 motion-reduce:transition-none motion-reduce:before:transition-none ' +
  'forced-colors:appearance-auto';

interface FrameProps {
  label: string;
  help?: ReactNode;
  error?: string | undefined;
  optional?: boolean;
}

interface FieldProps extends FrameProps, Omit<InputHTMLAttributes<HTMLInputElement>, 'id' | 'className'> {
  mono?: boolean;
}

export function Field({ label, help, error, optional = false, mono = false, ...input }: FieldProps) {
  const id = useId();
  return (
    <Frame id={id} label={label} help={help} error={error} optional={optional}>
      <input
        {...input}
        ref={input.autoFocus ? autofocusAttribute : undefined}
        id={id}
        className={`${INPUT} ${mono ? 'font-mono text-sm' : ''}`}
        aria-invalid={error ? true : undefined}
        aria-describedby={describedBy(id, help, error)}
      />
    </Frame>
  );
}

/** A password that can be looked at; pasting is welcome (WCAG 2.2, 3.3.8). */
export function PasswordField({ label, help, error, ...input }: FieldProps) {
  const id = useId();
  const [shown, setShown] = useState(false);
  const Icon = shown ? EyeOff : Eye;
  return (
    <Frame id={id} label={label} help={help} error={error}>
      <div className="relative">
        <input
          {...input}
          ref={input.autoFocus ? autofocusAttribute : undefined}
          id={id}
          type={shown ? 'text' : 'password'}
          autoCapitalize="off"
          spellCheck={false}
          className={`${INPUT} pe-12`}
          aria-invalid={error ? true : undefined}
          aria-describedby={describedBy(id, help, error)}
        />
        <button
          type="button"
          onClick={() => setShown(!shown)}
          aria-label={shown ? t.auth.hide : t.auth.show}
          aria-pressed={shown}
          className="absolute inset-y-0 end-0 flex w-11 cursor-pointer items-center justify-center rounded-xl text-muted hover:text-ink focus-visible:outline-2 focus-visible:outline-accent"
        >
          <Icon aria-hidden className="size-5" />
        </button>
      </div>
    </Frame>
  );
}

interface SelectProps extends FrameProps, Omit<SelectHTMLAttributes<HTMLSelectElement>, 'id' | 'className'> {
  options: readonly (readonly [value: string, label: string])[];
}

export function Select({ label, help, error, options, ...select }: SelectProps) {
  const id = useId();
  return (
    <Frame id={id} label={label} help={help} error={error}>
      <div className="relative">
        <select
          {...select}
          id={id}
          className={`${INPUT} cursor-pointer appearance-none pe-10`}
          aria-invalid={error ? true : undefined}
          aria-describedby={describedBy(id, help, error)}
        >
          {options.map(([value, text]) => (
            <option key={value} value={value}>
              {text}
            </option>
          ))}
        </select>
        <ChevronDown
          aria-hidden
          className="pointer-events-none absolute inset-y-0 end-3 my-auto size-4 text-muted forced-colors:hidden"
        />
      </div>
    </Frame>
  );
}

interface SwitchProps {
  label: string;
  help?: string;
  checked: boolean;
  onChange: (checked: boolean) => void;
}

export function Switch({ label, help, checked, onChange }: SwitchProps) {
  const id = useId();
  return (
    <div className="flex items-center justify-between gap-4 py-3">
      <div className="min-w-0">
        <label htmlFor={id} className="cursor-pointer font-medium">
          {label}
        </label>
        {help && (
          <p id={`${id}-help`} className="text-muted text-sm">
            {help}
          </p>
        )}
      </div>
      <input
        id={id}
        type="checkbox"
        role="switch"
        checked={checked}
        aria-checked={checked}
        aria-describedby={help ? `${id}-help` : undefined}
        onChange={(event) => onChange(event.target.checked)}
        className={SWITCH}
      />
    </div>
  );
}

function Frame({ id, label, help, error, optional, children }: FrameProps & { id: string; children: ReactNode }) {
  return (
    <div className="flex flex-col gap-1.5">
      <label htmlFor={id} className="font-medium text-sm">
        {label}
        {optional && <span className="font-normal text-muted"> ({t.setup.network.optional})</span>}
      </label>
      {children}
      {error && (
        <p id={`${id}-error`} className="text-bad text-sm first-letter:uppercase">
          {error}
        </p>
      )}
      {help && (
        <div id={`${id}-help`} className="text-muted text-sm">
          {help}
        </div>
      )}
    </div>
  );
}

function describedBy(id: string, help: ReactNode, error: string | undefined): string | undefined {
  const ids = [error && `${id}-error`, help && `${id}-help`].filter(Boolean);
  return ids.length > 0 ? ids.join(' ') : undefined;
}
