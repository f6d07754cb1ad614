/** The one place that talks to the cell: base URL, CSRF header, claim token, errors, server time. */

import { isAttended } from '../lib/attention';
import { learnServerTime } from '../lib/clock';
import { errorFromAnswer } from './error';
import { client } from './gen/client.gen';
import * as sdk from './gen/sdk.gen';

const CSRF_HEADER = 'X-CSRF-Token';
/** Says that no person asked: the session does not last longer by it. */
const BACKGROUND_HEADER = 'X-Cell-Background';

// Both live in this module's memory alone: never in storage, so that a reload forgets them.
let csrfToken: string | undefined;
let claimToken: string | undefined;

/** Remembers the claim token for the steps that follow; `undefined` forgets it. */
export function setClaimToken(token: string | undefined): void {
  claimToken = token;
}

/** The header of every step after the claim. */
export function claimHeader(): { 'X-Claim-Token': string } {
  return { 'X-Claim-Token': claimToken ?? '' };
}

export function hasClaimToken(): boolean {
  return claimToken !== undefined;
}

/** To be called when the session begins or ends: its token went with it. */
export function forgetCsrfToken(): void {
  csrfToken = undefined;
}

/** `fetch` of this page: adds the CSRF token, and asks for another once when the cell wants another. */
async function guardedFetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  if (!isAttended()) request.headers.set(BACKGROUND_HEADER, '1');
  if (!needsCsrf(request)) return learn(await fetch(request));
  // As text, so that it can be sent twice.
  const body = (await request.text()) || null;
  const response = await sendWithCsrf(request, body);
  if (response.status !== 403 || (await codeOf(response)) !== 'CSRF') return response;
  forgetCsrfToken();
  return sendWithCsrf(request, body);
}

function needsCsrf(request: Request): boolean {
  const path = new URL(request.url).pathname;
  if (request.method === 'GET' || request.method === 'HEAD') return false;
  return path !== '/api/auth/login' && !path.startsWith('/api/setup/');
}

async function sendWithCsrf({ url, method, headers, signal }: Request, body: string | null): Promise<Response> {
  csrfToken ??= (await sdk.getCsrfToken()).data.csrf_token;
  headers.set(CSRF_HEADER, csrfToken);
  return learn(await fetch(url, { method, headers, signal, body, credentials: 'same-origin', cache: 'no-store' }));
}

async function codeOf(response: Response): Promise<unknown> {
  return response
    .clone()
    .json()
    .then(
      (body: { code?: unknown }) => body.code,
      () => undefined,
    );
}

function learn(response: Response): Response {
  learnServerTime(response.headers.get('date'));
  return response;
}

client.setConfig({
  baseUrl: window.location.origin,
  credentials: 'same-origin',
  cache: 'no-store',
  fetch: guardedFetch,
});
client.interceptors.error.use((error, response) => errorFromAnswer(error, response));

/** The answer's body alone. Throws `ApiError`. */
export async function data<T>(call: Promise<{ data: T }>): Promise<T> {
  return (await call).data;
}

export { sdk };
