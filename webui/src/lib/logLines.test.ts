import { expect, it } from 'vitest';
import { append, EMPTY_LOG, filterLines, MOST_LINES } from './logLines';
import { linesOf } from './useLog';

it('a log keeps its last lines alone, numbered through', () => {
  let log = EMPTY_LOG;
  for (let i = 0; i < 30; i++)
    log = append(
      log,
      Array.from({ length: 100 }, (_, k) => `line ${i * 100 + k}`),
    );
  expect(log.count).toBe(3000);
  expect(log.lines).toHaveLength(MOST_LINES);
  expect(log.lines[0]).toEqual({ n: 2000, text: 'line 2000' });
  expect(log.lines.at(-1)).toEqual({ n: 2999, text: 'line 2999' });
});

it('more lines at once than are kept, and one without end, are cut', () => {
  const log = append(EMPTY_LOG, [...Array(MOST_LINES).fill('x'), 'y'.repeat(1e6)]);
  expect(log.lines).toHaveLength(MOST_LINES);
  expect(log.lines[0]?.n).toBe(1);
  expect(log.lines.at(-1)?.text).toHaveLength(4000);
});

it('a filter finds text in any case', () => {
  const { lines } = append(EMPTY_LOG, ['GET /a', 'POST /b', 'get /c']);
  expect(filterLines(lines, ' get ').map(({ text }) => text)).toEqual(['GET /a', 'get /c']);
  expect(filterLines(lines, '')).toBe(lines);
});

it('an event holds lines, and says where some were left out', () => {
  expect(linesOf('{"lines":["a","b"],"skipped":false}')).toEqual(['a', 'b']);
  const [gap, line] = linesOf('{"lines":["c"],"skipped":true}');
  expect(gap).toContain('left out');
  expect(line).toBe('c');
});
