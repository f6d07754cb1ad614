import { QueryClient, QueryObserver } from '@tanstack/react-query';
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { LiveStream } from './live';
import { TOPICS } from './queries';

/** What the browser's own would be told by the cell. */
class FakeSource extends EventTarget {
  closed = false;
  close() {
    this.closed = true;
  }
  say(...topics: string[]) {
    for (const topic of topics) this.dispatchEvent(new Event(topic));
  }
}

const sources: FakeSource[] = [];
const asked: Record<string, number> = {};
let stream: LiveStream;
let end: () => void = () => undefined;

const count = (key: string) => asked[key] ?? 0;
const settled = () => vi.advanceTimersByTimeAsync(1);

beforeEach(async () => {
  vi.useFakeTimers();
  sources.length = 0;
  for (const key of Object.keys(asked)) delete asked[key];
  const queries = new QueryClient({ defaultOptions: { queries: { staleTime: 60_000, retry: false } } });
  const keys = [['peers'], ['status'], ['wireguard'], ['config'], ['audit', 'tail', 5], ['session']];
  const ends = keys.map((queryKey) =>
    new QueryObserver(queries, {
      queryKey,
      queryFn: async () => {
        asked[queryKey[0] as string] = count(queryKey[0] as string) + 1;
        return 1;
      },
    }).subscribe(() => undefined),
  );
  stream = new LiveStream(queries, () => {
    const source = new FakeSource();
    sources.push(source);
    return source as unknown as EventSource;
  });
  const stop = stream.start();
  end = () => {
    stop();
    for (const unsubscribe of ends) unsubscribe();
    queries.clear();
  };
  await settled();
  sources[0]?.say('open', ...Object.keys(TOPICS));
  await settled();
});
afterEach(() => {
  end();
  vi.useRealTimers();
});

it('asks for everything once when it opens, not again for the topics that it is greeted with', () => {
  expect(asked).toEqual({ peers: 2, status: 2, wireguard: 2, config: 2, audit: 2, session: 2 });
});

it('asks for what a topic names and nothing else', async () => {
  sources[0]?.say('audit');
  await settled();
  expect(asked).toEqual({ peers: 2, status: 2, wireguard: 2, config: 2, audit: 3, session: 2 });
  sources[0]?.say('peers');
  await settled();
  expect(asked).toEqual({ peers: 3, status: 2, wireguard: 2, config: 2, audit: 3, session: 2 });
});

it('follows activity, but not at every step of it', async () => {
  for (let i = 0; i < 50; i++) {
    sources[0]?.say('activity');
    await vi.advanceTimersByTimeAsync(200);
  }
  expect(count('peers') - 2).toBeGreaterThanOrEqual(2);
  expect(count('peers') - 2).toBeLessThanOrEqual(3);
  expect(count('config')).toBe(2);
});

it('is not troubled by a topic that it does not know', async () => {
  sources[0]?.say('weather');
  await settled();
  expect(count('peers')).toBe(2);
});

it('says that it is lost when it is not back at once', async () => {
  sources[0]?.say('error');
  await vi.advanceTimersByTimeAsync(1100);
  expect(stream.state).toEqual({ kind: 'live' });
  sources[1]?.say('open');
  await vi.advanceTimersByTimeAsync(5000);
  expect(stream.state).toEqual({ kind: 'live' });
  const since = Date.now();
  sources[1]?.say('error');
  await vi.advanceTimersByTimeAsync(1100);
  sources[2]?.say('error');
  await vi.advanceTimersByTimeAsync(1000);
  expect(stream.state).toEqual({ kind: 'lost', since });
});

it('asks for everything again when it comes back', async () => {
  sources[0]?.say('error');
  await vi.advanceTimersByTimeAsync(1100);
  expect(sources[0]?.closed).toBe(true);
  expect(count('session')).toBe(3);
  sources[1]?.say('open', ...Object.keys(TOPICS));
  await settled();
  expect(asked).toEqual({ peers: 3, status: 3, wireguard: 3, config: 3, audit: 3, session: 4 });
});
