/** Opens what is rarely needed: the browser's own details element with a mark that turns. */

import { ChevronRight } from 'lucide-react';
import type { ReactNode } from 'react';

interface Props {
  summary: ReactNode;
  children: ReactNode;
  open?: boolean;
  onToggle?: (open: boolean) => void;
  quiet?: boolean;
}

export function Disclosure({ summary, children, open, onToggle, quiet = false }: Props) {
  return (
    <details
      className="group"
      {...(open !== undefined && { open })}
      onToggle={onToggle && ((event) => onToggle(event.currentTarget.open))}
    >
      <summary
        className={`flex min-h-11 cursor-pointer list-none items-center gap-2 rounded-lg hover:text-accent focus-visible:outline-2 focus-visible:outline-accent [&::-webkit-details-marker]:hidden ${quiet ? 'text-muted text-sm' : 'font-medium text-sm'}`}
      >
        <ChevronRight
          aria-hidden
          className="size-4 shrink-0 text-muted transition-transform group-open:rotate-90 motion-reduce:transition-none"
        />
        {summary}
      </summary>
      {children}
    </details>
  );
}
