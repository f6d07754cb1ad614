/** A log that grows without end, in a bounded memory. Pure. */

export const MOST_LINES = 1000;
const MOST_LENGTH = 4000;

export interface Line {
  /** Grows by one with each line. */
  n: number;
  text: string;
}

export interface Log {
  lines: readonly Line[];
  /** How many there were in all. */
  count: number;
}

export const EMPTY_LOG: Log = { lines: [], count: 0 };

/** The last lines alone are kept. */
export function append(log: Log, texts: readonly string[]): Log {
  const kept = texts.slice(-MOST_LINES);
  const first = log.count + texts.length - kept.length;
  const added = kept.map((text, i) => ({ n: first + i, text: text.slice(0, MOST_LENGTH) }));
  return { lines: [...log.lines, ...added].slice(-MOST_LINES), count: log.count + texts.length };
}

export function filterLines(lines: readonly Line[], wanted: string): readonly Line[] {
  const text = wanted.trim().toLowerCase();
  return text ? lines.filter((line) => line.text.toLowerCase().includes(text)) : lines;
}
