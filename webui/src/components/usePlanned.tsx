/** A change that is asked about first: where it takes something from somebody, a person reads that before it is made. */

import { type ReactNode, useState } from 'react';
import type { ChangePlan } from '../api/types';
import { t } from '../i18n';
import { isRisky, type Safe, safeOf } from '../lib/plan';
import { type Action, useAction } from '../lib/useAction';
import { Confirm } from './Confirm';
import { PlanList } from './PlanList';

export interface Change {
  plan: () => Promise<ChangePlan>;
  /** Is given what to send it with: a change that may cut off its author waits to be kept. */
  make: (safe: Safe, plan: ChangePlan) => Promise<void>;
}

interface Asked {
  plan: ChangePlan;
  change: Change;
}

/**
 * `start` makes a change, perhaps after a question; `question` is that question, to be shown anywhere. `seconds`: how long
 * a change waits that may cut off its author.
 */
export function usePlanned(seconds?: number): { action: Action; start: (change: Change) => void; question: ReactNode } {
  const action = useAction();
  const [asked, setAsked] = useState<Asked>();
  const start = (change: Change) => {
    void action.run(async () => {
      const plan = await change.plan();
      if (isRisky(plan)) setAsked({ plan, change });
      else await change.make(safeOf(plan, seconds), plan);
    });
  };
  const question = asked && (
    <Confirm
      title={t.plan.title}
      text={<PlanList plan={asked.plan} />}
      confirm={t.plan.make}
      act={() => asked.change.make(safeOf(asked.plan, seconds), asked.plan)}
      onClose={() => setAsked(undefined)}
    />
  );
  return { action, start, question };
}
