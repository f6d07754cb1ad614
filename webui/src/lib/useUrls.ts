import { useQuery } from '@tanstack/react-query';
import { activeServicesQuery } from '../api/queries';

/** Where browsers find services, by name. */
export function useUrls(): Readonly<Record<string, string | null>> {
  const active = useQuery(activeServicesQuery(true)).data ?? [];
  return Object.fromEntries(active.map(({ name, url }) => [name, url]));
}
