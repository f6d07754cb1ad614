import { Monitor, Moon, Sun } from 'lucide-react';
import { useId, useState } from 'react';
import { t } from '../i18n';
import { readTheme, type Theme, writeTheme } from '../lib/theme';

const THEMES = [
  ['system', t.theme.system, Monitor],
  ['light', t.theme.light, Sun],
  ['dark', t.theme.dark, Moon],
] as const;

/** Icons alone where there is little room. */
export function ThemeSwitch({ labelled = false }: { labelled?: boolean }) {
  const [theme, setTheme] = useState(readTheme);
  const group = useId();
  const choose = (next: Theme) => {
    writeTheme(next);
    setTheme(next);
  };
  return (
    <fieldset className="grid grid-cols-3 gap-1 rounded-xl bg-hover p-1">
      <legend className="sr-only">{t.theme.label}</legend>
      {THEMES.map(([value, label, Icon]) => (
        <label
          key={value}
          className="relative flex min-h-9 cursor-pointer items-center justify-center rounded-lg text-muted hover:text-ink has-checked:bg-card has-checked:text-ink has-checked:shadow-card has-focus-visible:outline-2 has-focus-visible:outline-accent"
        >
          <input
            type="radio"
            name={group}
            value={value}
            checked={theme === value}
            onChange={() => choose(value)}
            aria-label={label}
            className="absolute inset-0 cursor-pointer opacity-0"
          />
          <Icon aria-hidden className="size-4" />
          {labelled && (
            <span aria-hidden className="ms-2 font-medium text-sm">
              {label}
            </span>
          )}
        </label>
      ))}
    </fieldset>
  );
}
