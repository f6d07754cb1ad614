import { t } from '../i18n';

/** What a change does, in the cell's own words. */
export function Sentences({ of }: { of: readonly string[] }) {
  return (
    <ul aria-label={t.plan.label} className="list-disc space-y-1 ps-5">
      {of.map((sentence) => (
        <li key={sentence} className="break-words">
          {sentence}
        </li>
      ))}
    </ul>
  );
}
