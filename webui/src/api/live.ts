/** The event stream: one per tab, closed while the tab is hidden. It says what changed; queries fetch it. */

import type { QueryClient } from '@tanstack/react-query';
import { sessionQuery, TOPICS } from './queries';

/** `lost` since the given time of this browser's clock, in milliseconds. */
export type LiveState = { kind: 'connecting' } | { kind: 'live' } | { kind: 'lost'; since: number };

const RETRY_MILLIS = [1000, 2000, 4000, 8000];

export class LiveStream {
  state: LiveState = { kind: 'connecting' };
  private readonly listeners = new Set<() => void>();
  private source: EventSource | undefined;
  private retry: ReturnType<typeof setTimeout> | undefined;
  private failures = 0;

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
    source.addEventListener('open', () => this.onOpen());
    source.addEventListener('error', () => this.onLost());
    for (const topic of Object.keys(TOPICS)) source.addEventListener(topic, () => this.onTopic(topic));
  }

  private onOpen(): void {
    const wasAway = this.state.kind !== 'live';
    this.failures = 0;
    this.set({ kind: 'live' });
    // Whatever happened meanwhile was not told.
    if (wasAway) void this.queries.invalidateQueries({}, { cancelRefetch: false });
  }

  private onLost(): void {
    this.close();
    if (this.state.kind !== 'lost') this.set({ kind: 'lost', since: Date.now() });
    // The stream ends with the session too: then this asks for the password.
    void this.queries.invalidateQueries({ queryKey: sessionQuery.queryKey });
    const wait = RETRY_MILLIS[Math.min(this.failures, RETRY_MILLIS.length - 1)];
    this.failures++;
    this.retry = setTimeout(() => this.onVisibility(), wait);
  }

  private onTopic(topic: string): void {
    for (const queryKey of TOPICS[topic] ?? []) {
      void this.queries.invalidateQueries({ queryKey: [...queryKey] }, { cancelRefetch: false });
    }
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
