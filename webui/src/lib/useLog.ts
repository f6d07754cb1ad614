/** A container's log as it grows: by a stream, or, where that cannot be had, read anew every few seconds. */

import { useEffect, useRef, useState } from 'react';
import { data, sdk } from '../api/client';
import { type ApiError, asApiError } from '../api/error';
import { s } from '../i18n/services';
import { append, EMPTY_LOG, type Log } from './logLines';

const POLL_MILLIS = 5000;
const FIRST_LINES = 200;
/** Lines that come together are drawn together. */
const DRAW_MILLIS = 250;

export type LogMode = 'connecting' | 'live' | 'polled';

export interface LiveLog {
  log: Log;
  mode: LogMode;
  error: ApiError | undefined;
}

export function useLog(service: string, container: string | undefined): LiveLog {
  const [state, setState] = useState<LiveLog>({ log: EMPTY_LOG, mode: 'connecting', error: undefined });
  const source = `${service} ${container ?? ''}`;
  const shown = useRef(source);
  useEffect(() => {
    if (shown.current !== source) setState({ log: EMPTY_LOG, mode: 'connecting', error: undefined });
    shown.current = source;
    return follow(service, container, (change) => setState((before) => ({ ...before, ...change(before) })));
  }, [service, container, source]);
  return state;
}

type Tell = (change: (before: LiveLog) => Partial<LiveLog>) => void;

/** Begins; the answer ends it. */
function follow(service: string, container: string | undefined, tell: Tell): () => void {
  let ended = false;
  let poll: ReturnType<typeof setTimeout> | undefined;
  let draw: ReturnType<typeof setTimeout> | undefined;
  let waiting: string[] = [];
  const flush = () => {
    draw = undefined;
    const lines = waiting;
    waiting = [];
    tell(({ log }) => ({ log: append(log, lines) }));
  };
  const onLines = (lines: readonly string[]) => {
    waiting.push(...lines);
    draw ??= setTimeout(flush, DRAW_MILLIS);
  };
  const read = async () => {
    try {
      const query = { lines: FIRST_LINES, ...(container && { container }) };
      const { lines } = await data(sdk.getServiceLogs({ path: { service }, query }));
      if (!ended) tell(() => ({ log: append(EMPTY_LOG, lines), mode: 'polled', error: undefined }));
    } catch (error) {
      if (!ended) tell(() => ({ mode: 'polled', error: asApiError(error) }));
    }
    if (!ended) poll = setTimeout(() => void read(), POLL_MILLIS);
  };
  const stream = openStream(service, container, {
    // What the stream begins with is the end of the log: what was shown before would stand there twice.
    onOpen: () => tell(() => ({ log: EMPTY_LOG, mode: 'live', error: undefined })),
    onLines,
    onGivenUp: () => {
      if (!ended) void read();
    },
  });
  return () => {
    ended = true;
    clearTimeout(poll);
    clearTimeout(draw);
    stream.close();
  };
}

interface StreamHandlers {
  onOpen: () => void;
  onLines: (lines: readonly string[]) => void;
  onGivenUp: () => void;
}

/** The one route that the generated client cannot stream. */
function logStreamUrl(service: string, container: string | undefined): string {
  const query = new URLSearchParams({ follow: 'true', lines: String(FIRST_LINES), ...(container && { container }) });
  return `/api/services/${encodeURIComponent(service)}/logs?${query}`;
}

function openStream(service: string, container: string | undefined, handlers: StreamHandlers): EventSource {
  const stream = new EventSource(logStreamUrl(service, container));
  stream.addEventListener('open', handlers.onOpen);
  stream.addEventListener('message', (event: MessageEvent<string>) => handlers.onLines(linesOf(event.data)));
  stream.addEventListener('error', () => {
    // The browser opens it again by itself, unless the answer was a refusal.
    if (stream.readyState === EventSource.CLOSED) handlers.onGivenUp();
  });
  return stream;
}

/** What an event holds: `{"lines": [text], "skipped": whether lines before these were left out}`. */
export function linesOf(text: string): string[] {
  const { lines, skipped } = JSON.parse(text) as { lines: string[]; skipped: boolean };
  return skipped ? [s.logs.skipped, ...lines] : lines;
}
