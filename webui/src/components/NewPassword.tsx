/** A new password with its rule and a rough measure; the server has the last word. */

import { t } from '../i18n';
import { passwordStrength } from '../lib/password';
import { PasswordField } from './Field';

interface Props {
  label: string;
  value: string;
  onChange: (value: string) => void;
  error: string | undefined;
  name?: string;
  help?: string;
  autoFocus?: boolean;
}

const BARS = ['bg-edge', 'bg-bad', 'bg-warn', 'bg-good', 'bg-good'];

export function NewPassword({ label, value, onChange, error, name = 'password', help, autoFocus = false }: Props) {
  const strength = passwordStrength(value);
  return (
    <div className="flex flex-col gap-2">
      <PasswordField
        label={label}
        name={name}
        autoComplete="new-password"
        required
        autoFocus={autoFocus}
        value={value}
        onChange={(event) => onChange(event.target.value)}
        error={error}
        help={help ?? t.auth.rule(10)}
      />
      {value && (
        <div className="flex items-center gap-3">
          <div aria-hidden className="grid flex-1 grid-cols-4 gap-1">
            {[1, 2, 3, 4].map((bar) => (
              <span key={bar} className={`h-1.5 rounded-full ${bar <= strength ? BARS[strength] : 'bg-hover'}`} />
            ))}
          </div>
          <p aria-live="polite" className="text-muted text-sm">
            <span className="sr-only">{t.auth.strengthLabel}: </span>
            {t.auth.strength[strength]}
          </p>
        </div>
      )}
    </div>
  );
}
