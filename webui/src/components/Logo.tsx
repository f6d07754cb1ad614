/** One cell of a comb. */
export function Logo({ className }: { className: string }) {
  return (
    <svg aria-hidden="true" viewBox="0 0 32 32" className={className}>
      <path fill="currentColor" d="M16 1.5 28.6 8.7v14.6L16 30.5 3.4 23.3V8.7z" />
      <circle cx="16" cy="16" r="5" fill="none" className="stroke-card" strokeWidth="3" />
    </svg>
  );
}
