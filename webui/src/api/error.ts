/** What can go wrong with a request, as one type. Pure. */

import { t } from '../i18n';
import type { Problem, Violation } from './gen';

/** Status 0: no answer at all. `code` is the server's UPPER_SNAKE word, or one of the two below. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly violations: Violation[] = [],
    /** From `Retry-After`, in seconds. */
    readonly retryAfterSeconds: number | undefined = undefined,
    readonly requestId: string | undefined = undefined,
  ) {
    super(message);
    this.name = 'ApiError';
  }
}

export const NO_ANSWER = 'NO_ANSWER';
export const NOT_A_PROBLEM = 'NOT_A_PROBLEM';

/** From an answer's body, if it is a problem document (RFC 9457), else from its status alone. */
export function errorFromAnswer(body: unknown, response: Response | undefined): ApiError {
  // What was asked for first, a CSRF token, was refused: that refusal is the answer.
  if (body instanceof ApiError) return body;
  if (!response) return new ApiError(0, NO_ANSWER, t.errors.noAnswer);
  const retryAfter = Number.parseInt(response.headers.get('retry-after') ?? '', 10);
  const retryAfterSeconds = Number.isNaN(retryAfter) ? undefined : retryAfter;
  if (!isProblem(body)) {
    return new ApiError(response.status, NOT_A_PROBLEM, t.errors.status(response.status), [], retryAfterSeconds);
  }
  const message = body.detail || body.title || t.errors.status(response.status);
  return new ApiError(response.status, body.code, message, body.violations ?? [], retryAfterSeconds, body.request_id);
}

/** Anything thrown, as an `ApiError`; what is not one is a fault of this page and says so. */
export function asApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  return new ApiError(0, 'PAGE', error instanceof Error ? error.message : String(error));
}

/** Refusals that are about one field, though they name none. */
const FIELD_OF_CODE: Readonly<Record<string, string>> = {
  CLAIM_TOKEN: 'claim_token',
  CONNECTION_EXISTS: 'name',
  KEY_IN_USE: 'public_key',
  PEER_EXISTS: 'name',
  USER_EXISTS: 'username',
  WRONG_PASSWORD: 'current_password',
};

/** The field that the whole refusal is about, if the form has it. */
export function fieldOfRefusal(error: ApiError | undefined, fields: readonly string[]): string | undefined {
  const field = error && error.violations.length === 0 ? FIELD_OF_CODE[error.code] : undefined;
  return field !== undefined && fields.includes(field) ? field : undefined;
}

/** The complaints about fields that the form shows, by field; the rest belong above the form. */
export function splitViolations(error: ApiError | undefined, fields: readonly string[]) {
  const byField: Record<string, string> = {};
  const rest: Violation[] = [];
  const refused = fieldOfRefusal(error, fields);
  if (error && refused !== undefined) byField[refused] = error.message;
  for (const violation of error?.violations ?? []) {
    const field = fields.find((name) => violation.field === name);
    if (field === undefined) rest.push(violation);
    else byField[field] = byField[field] ? `${byField[field]}; ${violation.description}` : violation.description;
  }
  return { byField, rest };
}

function isProblem(body: unknown): body is Problem {
  return typeof body === 'object' && body !== null && typeof (body as Problem).code === 'string';
}
