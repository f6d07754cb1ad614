/** Whoever changes the device that they sit at may cut off the way that they came by: such a change is asked for again. */

import { useQuery } from '@tanstack/react-query';
import { sessionQuery } from '../api/queries';

/** Long enough to see whether the page still answers. */
const SECONDS = 60;

/** What a change of the device `name` is to be asked for with: of one's own, that it is taken back unless it is kept. */
export function useSafeChange(name: string): { confirm_within?: number } {
  const session = useQuery({ ...sessionQuery, enabled: false }).data;
  const own = session?.kind === 'signed-in' && session.me.device === name;
  return own ? { confirm_within: SECONDS } : {};
}
