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

const EXCHANGE_PATH = '/api/auth/change-password';

/** While the cell exchanges this page's session for another: when it has. Never two at once: the form is shut meanwhile. */
let exchange: Promise<unknown> | undefined;
let exchanges = 0;

/**
 * `fetch` of this page: adds the CSRF token, and asks for another once when the cell wants another. What was sent with
 * the cookie of before a change of password, and is refused for that, says nothing about the session that followed it.
 */
async function guardedFetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
  const request = new Request(input, init);
  if (!isAttended()) request.headers.set(BACKGROUND_HEADER, '1');
  // As text, so that it can be sent twice.
  const body = (await request.text()) || null;
  const before = exchanges;
  const response = await send(request, body);
  const isExchange = new URL(request.url).pathname === EXCHANGE_PATH;
  if (response.status !== 401 || isExchange || (exchange === undefined && exchanges === before)) return response;
  await exchange;
  return send(request, body);
}

async function send(request: Request, body: string | null): Promise<Response> {
  if (!needsCsrf(request)) return sendOnce(request, body);
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

async function sendWithCsrf(request: Request, body: string | null): Promise<Response> {
  csrfToken ??= (await sdk.getCsrfToken()).data.csrf_token;
  request.headers.set(CSRF_HEADER, csrfToken);
  return sendOnce(request, body);
}

/** Waits for nobody, so that whoever waits for the exchange does not wait for itself. */
async function sendOnce({ url, method, headers, signal }: Request, body: string | null): Promise<Response> {
  const answer = fetch(url, { method, headers, signal, body, credentials: 'same-origin', cache: 'no-store' });
  if (new URL(url).pathname !== EXCHANGE_PATH) return learn(await answer);
  exchange = answer.catch(() => undefined);
  try {
    return learn(await answer);
  } finally {
    exchange = undefined;
    exchanges++;
  }
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
