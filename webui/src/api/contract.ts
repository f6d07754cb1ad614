/**
 * Routes of services that `openapi.json` does not have yet: typed by hand after the parts' contract, and replaced by the
 * generated ones once these are there. Nothing else in the UI writes an address of the API.
 */

import { data } from './client';
import { client } from './gen/client.gen';

/** A transition of a service's health. */
export interface HealthEntry {
  at: string;
  state: string;
  detail: string;
}

/** One step of a test of a service. */
export interface Check {
  name: string;
  ok: boolean;
  detail: string;
  ms: number;
}

export interface Alert {
  id: string;
  service: string;
  since: string;
  severity: string;
  text: string;
  acknowledged: boolean;
}

const at = (service: string, rest: string) => `/api/services/${encodeURIComponent(service)}/${rest}`;

const get = <T>(url: string): Promise<T> =>
  data(client.get<{ 200: T }, unknown, true>({ url, throwOnError: true }) as Promise<{ data: T }>);

const post = <T>(url: string, body?: unknown): Promise<T> =>
  data(
    client.post<{ 200: T }, unknown, true>({
      url,
      throwOnError: true,
      ...(body !== undefined && { body, headers: { 'Content-Type': 'application/json' } }),
    }) as Promise<{ data: T }>,
  );

export const healthHistory = async (service: string): Promise<HealthEntry[]> =>
  (await get<{ entries: HealthEntry[] }>(at(service, 'health/history'))).entries;

export const testService = async (service: string): Promise<Check[]> =>
  (await post<{ checks: Check[] }>(at(service, 'test'))).checks;

export const listAlerts = async (): Promise<Alert[]> => (await get<{ alerts: Alert[] }>('/api/alerts')).alerts;

export async function acknowledgeAlert(id: string): Promise<void> {
  await post(`/api/alerts/${encodeURIComponent(id)}/acknowledge`);
}

/** Where a container's log is told as it grows, for `EventSource`. */
export function logStreamUrl(service: string, container: string | undefined): string {
  const query = new URLSearchParams({ follow: 'true', ...(container && { container }) });
  return at(service, `logs?${query}`);
}
