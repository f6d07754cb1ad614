import { Check, Copy } from 'lucide-react';
import { type RefObject, useState } from 'react';
import { t } from '../i18n';
import { copyText } from '../lib/copy';
import { Button } from './Button';

interface Props {
  text: string;
  label: string;
  /** Selected when the browser does not let pages copy (plain http), for Ctrl+C. */
  fallback: RefObject<HTMLTextAreaElement | null>;
  onFallback: () => void;
}

export function CopyButton({ text, label, fallback, onFallback }: Props) {
  const [state, setState] = useState<'idle' | 'copied' | 'by-hand'>('idle');
  const copy = async () => {
    if (await copyText(text)) {
      setState('copied');
      return;
    }
    setState('by-hand');
    onFallback();
    // After the text has been shown.
    requestAnimationFrame(() => {
      fallback.current?.focus();
      fallback.current?.select();
    });
  };
  const Icon = state === 'copied' ? Check : Copy;
  const words = { idle: label, copied: t.app.copied, 'by-hand': t.app.copyByHand };
  return (
    <Button onClick={() => void copy()}>
      <Icon aria-hidden className="size-4" />
      <span aria-live="polite">{words[state]}</span>
    </Button>
  );
}
