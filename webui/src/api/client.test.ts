import { HttpResponse, http } from 'msw';
import { beforeEach, describe, expect, it, vi } from 'vitest';
import { watchAttention } from '../lib/attention';
import { serverNow } from '../lib/clock';
import { problem } from '../test/cell';
import { server } from '../test/setup';
import { data, forgetCsrfToken, sdk } from './client';
import { ApiError, NO_ANSWER, NOT_A_PROBLEM, splitViolations } from './error';
import { type Session, sessionAfter, sessionFromError } from './queries';

async function failure(call: Promise<unknown>): Promise<ApiError> {
  const error = await call.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ApiError)) throw new Error(`not an ApiError: ${error}`);
  return error;
}

beforeEach(forgetCsrfToken);

describe('a change of the own password', () => {
  /** A cell of which the cookie of before ends as the change is asked, and whose answer takes its time. */
  function cellInExchange(answer: () => Response) {
    let after = false;
    let ended = false;
    server.use(
      http.get('/api/auth/csrf-token', () => HttpResponse.json({ csrf_token: 'c' })),
      http.get('/api/peers', () => (ended && !after ? problem(401, 'NO_SESSION') : HttpResponse.json({ peers: [] }))),
      http.post('/api/auth/change-password', async () => {
        ended = true;
        await new Promise((resolve) => setTimeout(resolve, 100));
        after = true;
        return answer();
      }),
    );
    return sdk.changePassword({ body: { current_password: 'a', new_password: 'b' } });
  }

  it('refuses nothing that was asked while it ran', async () => {
    const changed = cellInExchange(() => HttpResponse.json({ csrf_token: 'd' }));
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(await data(sdk.listPeers())).toEqual({ peers: [] });
    await changed;
  });

  it('of a session that has ended is refused, and holds nothing up', async () => {
    server.use(
      http.get('/api/auth/csrf-token', () => problem(401, 'NO_SESSION')),
      http.get('/api/peers', () => problem(401, 'NO_SESSION')),
    );
    const body = { current_password: 'a', new_password: 'b' };
    expect(await failure(sdk.changePassword({ body }))).toMatchObject({ status: 401 });
    expect(await failure(sdk.listPeers())).toMatchObject({ status: 401 });
  });

  it('whose CSRF token is another by now asks for it, and holds nothing up', async () => {
    let tokens = 0;
    server.use(
      http.get('/api/auth/csrf-token', () =>
        tokens++ === 0 ? HttpResponse.json({ csrf_token: 'c' }) : problem(401, 'NO_SESSION'),
      ),
      http.post('/api/auth/change-password', () => problem(403, 'CSRF')),
    );
    const body = { current_password: 'a', new_password: 'b' };
    expect(await failure(sdk.changePassword({ body }))).toMatchObject({ status: 401 });
  });

  it('that fails lets a session that has ended be one', async () => {
    const changed = cellInExchange(() => problem(500, 'INTERNAL'));
    const told = failure(changed);
    server.use(http.get('/api/peers', () => problem(401, 'NO_SESSION')));
    expect(await failure(sdk.listPeers())).toMatchObject({ status: 401 });
    expect(await told).toMatchObject({ status: 500 });
    expect(await failure(sdk.listPeers())).toMatchObject({ status: 401 });
  });
});

describe('errors', () => {
  it('carry code, words, fields and waiting time of a problem document', async () => {
    const violations = [
      { field: 'name', description: 'is taken' },
      { field: 'access.services[0].port', description: 'must be from 1 to 65535' },
      { field: 'name', description: 'is too long' },
    ];
    server.use(http.get('/api/peers', () => problem(429, 'THROTTLED', { violations }, { 'retry-after': '42' })));
    const error = await failure(sdk.listPeers());
    expect(error).toMatchObject({
      status: 429,
      code: 'THROTTLED',
      message: 'THROTTLED happened',
      retryAfterSeconds: 42,
      requestId: 'r-1',
    });
    expect(splitViolations(error, ['name'])).toEqual({
      byField: { name: 'is taken; is too long' },
      rest: [violations[1]],
    });
  });

  it('that are about one field are shown at it, where the form has it', () => {
    const taken = new ApiError(409, 'PEER_EXISTS', 'there is a peer of this name');
    expect(splitViolations(taken, ['name'])).toEqual({ byField: { name: 'there is a peer of this name' }, rest: [] });
    expect(splitViolations(taken, ['username'])).toEqual({ byField: {}, rest: [] });
  });

  it('say so when nobody answers, or something else does', async () => {
    server.use(
      http.get('/api/peers', () => HttpResponse.error()),
      http.get('/api/status', () => HttpResponse.html('<h1>Bad gateway</h1>', { status: 502 })),
    );
    expect(await failure(sdk.listPeers())).toMatchObject({ status: 0, code: NO_ANSWER });
    expect(await failure(sdk.getStatus())).toMatchObject({ status: 502, code: NOT_A_PROBLEM });
  });

  it('tell of the session: 401 signed out, 428 setup, a wrong password neither', () => {
    expect(sessionFromError(new ApiError(401, 'NO_SESSION', ''))).toEqual({ kind: 'signed-out' });
    expect(sessionFromError(new ApiError(428, 'SETUP_REQUIRED', ''))).toEqual({ kind: 'setup' });
    expect(sessionFromError(new ApiError(401, 'LOGIN', ''))).toBeUndefined();
    expect(sessionFromError(new ApiError(403, 'ROLE', ''))).toBeUndefined();
  });
});

describe('the session', () => {
  const me: Session = { kind: 'signed-in', me: { username: 'a', role: 'admin', must_change_password: false } };
  const out: Session = { kind: 'signed-out' };
  const ended: Session = { kind: 'signed-out', ended: true };

  it('has ended when somebody was signed in, until somebody is again', () => {
    expect(sessionAfter(me, out)).toEqual(ended);
    expect(sessionAfter(ended, out)).toEqual(ended);
    expect(sessionAfter(undefined, out)).toEqual(out);
    expect(sessionAfter(out, out)).toEqual(out);
    expect(sessionAfter({ kind: 'setup' }, out)).toEqual(out);
    expect(sessionAfter(ended, me)).toEqual(me);
    expect(sessionAfter(me, { kind: 'setup' })).toEqual({ kind: 'setup' });
  });

  it('is not kept alive by what the page asks on its own', async () => {
    const sent: (string | null)[] = [];
    server.use(
      http.get('/api/peers', ({ request }) => {
        sent.push(request.headers.get('x-cell-background'));
        return HttpResponse.json({ peers: [] });
      }),
    );
    vi.useFakeTimers({ toFake: ['Date'] });
    const end = watchAttention(() => undefined);
    const press = () => window.dispatchEvent(new KeyboardEvent('keydown', { key: 'a' }));
    press();
    await sdk.listPeers();
    vi.advanceTimersByTime(61_000);
    await sdk.listPeers();
    press();
    await sdk.listPeers();
    end();
    vi.useRealTimers();
    expect(sent).toEqual([null, '1', null]);
  });
});

describe('CSRF token', () => {
  it('is asked for once, sent with every change and never with reads', async () => {
    let asked = 0;
    const sent: (string | null)[] = [];
    server.use(
      http.get('/api/auth/csrf-token', () => HttpResponse.json({ csrf_token: `t${++asked}` })),
      http.delete('/api/peers/:name', ({ request }) => {
        sent.push(request.headers.get('x-csrf-token'));
        return new HttpResponse(null, { status: 204 });
      }),
      http.get('/api/peers', ({ request }) => {
        sent.push(request.headers.get('x-csrf-token'));
        return HttpResponse.json({ peers: [] });
      }),
    );
    await sdk.deletePeer({ path: { name: 'a' } });
    await sdk.deletePeer({ path: { name: 'b' } });
    await sdk.listPeers();
    expect(asked).toBe(1);
    expect(sent).toEqual(['t1', 't1', null]);
  });

  it('is renewed once when refused, with the same body; a second refusal is an error', async () => {
    let asked = 0;
    const bodies: unknown[] = [];
    server.use(
      http.get('/api/auth/csrf-token', () => HttpResponse.json({ csrf_token: `t${++asked}` })),
      http.put('/api/config', async ({ request }) => {
        bodies.push(await request.json());
        return request.headers.get('x-csrf-token') === 't2' ? HttpResponse.json({}) : problem(403, 'CSRF');
      }),
    );
    await data(sdk.updateConfig({ body: { endpoint_host: 'a.example' } }));
    expect(bodies).toEqual([{ endpoint_host: 'a.example' }, { endpoint_host: 'a.example' }]);
    server.use(http.put('/api/config', () => problem(403, 'CSRF')));
    expect((await failure(sdk.updateConfig({ body: {} }))).code).toBe('CSRF');
    expect(asked).toBe(3);
  });
});

it('learns the time of the cell from its answers', async () => {
  const ahead = new Date(Date.now() + 3_600_000).toUTCString();
  server.use(http.get('/api/peers', () => HttpResponse.json({ peers: [] }, { headers: { date: ahead } })));
  await sdk.listPeers();
  expect(Math.abs(serverNow() - Date.now() - 3_600_000)).toBeLessThan(2000);
  server.use(
    http.get('/api/peers', () => HttpResponse.json({ peers: [] }, { headers: { date: new Date().toUTCString() } })),
  );
  await sdk.listPeers();
});
