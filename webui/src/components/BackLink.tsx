import { ChevronLeft } from 'lucide-react';
import { Link } from 'wouter';

/** The way up, over a page's heading. */
export function BackLink({ href, children }: { href: string; children: string }) {
  return (
    <Link
      href={href}
      className="-ms-1 mb-3 inline-flex min-h-11 items-center gap-1 rounded-lg pe-2 text-muted text-sm hover:text-ink focus-visible:outline-2 focus-visible:outline-accent"
    >
      <ChevronLeft aria-hidden className="size-4" />
      {children}
    </Link>
  );
}
