/** What a change would do, as the cell says it: the sentences are its own. */

import { data } from '../api/client';
import type { ConnectionStored } from '../api/gen';
import type { ChangePlan, Peer } from '../api/types';

/** What `validate_only` asks a change to be sent with. */
export const ONLY_ASK = { validate_only: true } as const;

/** How a change is sent for good, or until it is kept. */
export interface Safe {
  confirm_within?: number;
}

/** Long enough to see whether the page still answers, seconds. */
const SECONDS = 60;

/** With what the change of `plan` is sent: where it may cut off its author, that it is taken back unless it is kept. */
export function safeOf(plan: ChangePlan, seconds = SECONDS): Safe {
  return plan.confirm_advised ? { confirm_within: seconds } : {};
}

/** Statements of these kinds take something from somebody, or end what is open. */
const RISKY = new Set(['off', 'loses', 'new_key', 'ends', 'secrets']);

/** Whether a person should read it before the change is made. */
export function isRisky(plan: ChangePlan): boolean {
  if (plan.confirm_advised || plan.netd?.takes === false) return true;
  return plan.statements.some((one) => RISKY.has(one.kind));
}

/** The peer that a change made. */
export async function made(call: Promise<{ data: Peer | ChangePlan }>): Promise<Peer> {
  const answer = await data(call);
  if (isPlan(answer)) throw new Error('the cell only said what it would do');
  return answer;
}

/** The connection that a change made, and what of the import is not used. */
export async function stored(
  call: Promise<{ data: ConnectionStored | { statements: unknown } }>,
): Promise<ConnectionStored> {
  const answer = await data(call);
  if ('statements' in answer) throw new Error('the cell only said what it would do');
  return answer;
}

/** What a change would do. */
export async function planned(call: Promise<{ data: unknown }>): Promise<ChangePlan> {
  const answer = await data(call);
  if (!isPlan(answer)) throw new Error('the cell did not say what it would do');
  return answer;
}

function isPlan(answer: unknown): answer is ChangePlan {
  return typeof answer === 'object' && answer !== null && 'statements' in answer;
}
