/** The event stream: one per tab, closed while the tab is hidden. It says what changed; queries fetch it. */

import type { QueryClient } from '@tanstack/react-query';
import { Throttle } from '../lib/throttle';
import { sessionQuery, TOPICS, type Topic } from './queries';

/** `lost` since the given time of this browser's clock, in milliseconds. */
export type LiveState = { kind: 'connecting' } | { kind: 'live' } | { kind: 'lost'; since: number };

/** The window's event that the set of services has changed. Whatever changes it may fire it; the navigation asks anew. */
export const SERVICES_CHANGED = 'pic-services-changed';

const RETRY_MILLIS = [1000, 2000, 4000, 8000];
/** A stream that is back after the first try is not worth a word: it ends whenever the session is renewed, too. */
const TOLD_MILLIS = 1500;

export class LiveStream {
  state: LiveState = { kind: 'connecting' };
  private readonly listeners = new Set<() => void>();
  private source: EventSource | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;
  private away = true;
  private telling: ReturnType<typeof setTimeout> | undefined;
  /** Topics that this connection has told of; each is told once when it begins, which is no change. */
  private told = new Set<string>();
  private readonly throttles = new Map<string, Throttle>();

  constructor(
    private readonly queries: QueryClient,
    private readonly open: (url: string) => EventSource = (url) => new EventSource(url),
  ) {}

  /** Begins; the answer ends it. */
  start(): () => void {
    document.addEventListener('visibilitychange', this.onVisibility);
    this.onVisibility();
    return () => {
      document.removeEventListener('visibilitychange', this.onVisibility);
      this.close();
      clearTimeout(this.telling);
      for (const throttle of this.throttles.values()) throttle.cancel();
    };
  }

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  readonly snapshot = (): LiveState => this.state;

  private readonly onVisibility = (): void => {
    if (document.visibilityState === 'hidden') this.close();
    else if (!this.source) this.connect();
  };

  private connect(): void {
    clearTimeout(this.retry);
    const source = this.open('/api/events');
    this.source = source;
    this.told = new Set();
    source.addEventListener('open', () => this.onOpen());
    source.addEventListener('error', () => this.onLost());
    for (const [name, topic] of Object.entries(TOPICS)) source.addEventListener(name, () => this.onTopic(name, topic));
  }

  private onOpen(): void {
    const wasAway = this.away;
    this.away = false;
    this.failures = 0;
    clearTimeout(this.telling);
    this.set({ kind: 'live' });
    // Whatever happened meanwhile was not told.
    if (wasAway) void this.queries.invalidateQueries({}, { cancelRefetch: false });
  }

  private onLost(): void {
    this.close();
    if (this.state.kind !== 'lost' && this.failures === 0) {
      const since = Date.now();
      this.telling = setTimeout(() => this.set({ kind: 'lost', since }), TOLD_MILLIS);
    }
    this.away = true;
    // The stream ends with the session too: then this asks for the password.
    void this.queries.invalidateQueries({ queryKey: sessionQuery.queryKey });
    const wait = RETRY_MILLIS[Math.min(this.failures, RETRY_MILLIS.length - 1)];
    this.failures++;
    this.retry = setTimeout(() => this.onVisibility(), wait);
  }

  private onTopic(name: string, topic: Topic): void {
    if (!this.told.has(name)) {
      this.told.add(name);
      return;
    }
    let throttle = this.throttles.get(name);
    if (!throttle) {
      throttle = new Throttle(() => this.refetch(name, topic), topic.everyMillis);
      this.throttles.set(name, throttle);
    }
    throttle.call();
  }

  /** Ends when the answers are there. Only what is shown is asked for; the rest is stale from now on. */
  private async refetch(name: string, { keys }: Topic): Promise<void> {
    if (name === 'services') window.dispatchEvent(new Event(SERVICES_CHANGED));
    // What is on its way may have been read before the change: it is asked for anew.
    await Promise.all(keys.map((key) => this.queries.invalidateQueries({ queryKey: [...key] })));
  }

  private close(): void {
    clearTimeout(this.retry);
    this.source?.close();
    this.source = undefined;
  }

  private set(state: LiveState): void {
    this.state = state;
    for (const listener of this.listeners) listener();
  }
}
