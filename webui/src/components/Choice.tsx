/** One of several, with a word on what it means. */

import { useId } from 'react';

interface Props {
  label: string;
  text: string;
  checked: boolean;
  onSelect: () => void;
  /** Those of one question have one name. */
  name: string;
}

export function Choice({ label, text, checked, onSelect, name }: Props) {
  const id = useId();
  return (
    <div className="flex gap-3 py-1">
      <input
        id={id}
        type="radio"
        name={name}
        checked={checked}
        onChange={onSelect}
        aria-describedby={`${id}-text`}
        className="mt-0.5 size-5 shrink-0 cursor-pointer accent-accent"
      />
      <div>
        <label htmlFor={id} className="cursor-pointer font-medium">
          {label}
        </label>
        <p id={`${id}-text`} className="text-muted text-sm">
          {text}
        </p>
      </div>
    </div>
  );
}
