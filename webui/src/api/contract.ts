/**
 * Routes of services that `openapi.json` does not have yet: typed by hand after the parts' contract, and replaced by the
 * generated ones once these are there. Nothing else in the UI writes an address of the API.
 */

import { data } from './client';
import { client } from './gen/client.gen';

/** An account of a service. */
export interface Account {
  user: string;
  /** The device that it was made for; null: that device is gone. */
  peer: string | null;
  created_at: string;
}

/** What a person needs to sign in, told once. */
export interface Credential {
  service: string;
  user: string;
  password: string;
  /** Words or addresses for the program that signs in. */
  where: string[];
}

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

export const listAccounts = async (service: string): Promise<Account[]> =>
  (await get<{ accounts: Account[] }>(at(service, 'accounts'))).accounts;

/** All are made, or none. Without `user` the device's name is taken. */
export const createAccounts = async (body: {
  peer: string;
  user?: string;
  services: string[];
}): Promise<Credential[]> => (await post<{ credentials: Credential[] }>('/api/accounts', body)).credentials;

export const resetAccount = (
  service: string,
  user: string,
): Promise<Pick<Credential, 'service' | 'user' | 'password'>> =>
  post(at(service, `accounts/${encodeURIComponent(user)}/password`));

export async function deleteAccount(service: string, user: string): Promise<void> {
  await client.delete({ url: at(service, `accounts/${encodeURIComponent(user)}`), throwOnError: true });
}

/** What the removal of an account takes with it, a sentence each. */
export async function planAccountRemoval(service: string, user: string): Promise<string[]> {
  const url = `${at(service, `accounts/${encodeURIComponent(user)}`)}?validate_only=true`;
  const call = client.delete<{ 200: { plan: string[] } }, unknown, true>({ url, throwOnError: true });
  return (await data(call as Promise<{ data: { plan: string[] } }>)).plan;
}

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
