/** What went wrong, announced when it appears. */

import { CircleAlert } from 'lucide-react';
import type { ApiError } from '../api/error';
import { fieldOfRefusal, splitViolations } from '../api/error';
import { t } from '../i18n';

interface Props {
  error: ApiError | undefined;
  /** Fields that show their own complaints; the others are listed here. */
  fields?: readonly string[];
}

export function ErrorNote({ error, fields = [] }: Props) {
  if (!error) return null;
  const { rest } = splitViolations(error, fields);
  const refused = fieldOfRefusal(error, fields);
  const allShown = error.violations.length > 0 && rest.length === 0;
  const words = refused !== undefined ? t.errors.seeField : allShown ? t.errors.seeFields : error.message;
  return (
    <div role="alert" className="flex gap-3 rounded-xl bg-bad-soft p-3.5 text-bad text-sm">
      <CircleAlert aria-hidden className="mt-0.5 size-4 shrink-0" />
      <div className="min-w-0 break-words">
        <p className="font-medium first-letter:uppercase">{words}</p>
        {rest.length > 0 && (
          <ul className="mt-1 list-disc ps-4">
            {rest.map((violation) => (
              <li key={`${violation.field} ${violation.description}`}>
                {violation.field}: {violation.description}
              </li>
            ))}
          </ul>
        )}
        {error.status >= 500 && error.requestId && <p className="mt-1">{t.app.requestId(error.requestId)}</p>}
      </div>
    </div>
  );
}
