/** What a change would do, sentence by sentence. */

import type { ChangePlan } from '../api/types';
import { t } from '../i18n';

export function PlanList({ plan }: { plan: ChangePlan }) {
  const { statements, warning, netd } = plan;
  return (
    <div className="flex flex-col gap-3">
      <ul aria-label={t.plan.label} className="flex list-disc flex-col gap-1 pl-5">
        {statements.map((one) => (
          <li key={one.text} className="break-words">
            {one.text}
          </li>
        ))}
      </ul>
      {warning && <p className="font-medium">{warning}</p>}
      {netd?.takes === false && <p className="text-bad">{t.plan.refused(netd.says.join('; '))}</p>}
    </div>
  );
}
