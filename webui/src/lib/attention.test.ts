import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { isAttended, watchAttention } from './attention';

let end: () => void = () => undefined;
const unseen = vi.fn();
const press = () => window.dispatchEvent(new KeyboardEvent('keydown', { key: 'a' }));

beforeEach(() => {
  vi.useFakeTimers();
  unseen.mockReset();
  end = watchAttention(unseen);
  press();
  isAttended();
});
afterEach(() => {
  end();
  vi.useRealTimers();
});

it('is given for a minute after each input, and by nothing else', () => {
  vi.advanceTimersByTime(59_000);
  expect(isAttended()).toBe(true);
  vi.advanceTimersByTime(2_000);
  expect(isAttended()).toBe(false);
  expect(isAttended()).toBe(false);
  press();
  expect(isAttended()).toBe(true);
});

it('lets the cell hear of somebody who only reads or types, every five minutes', () => {
  for (let minute = 0; minute < 12; minute++) {
    vi.advanceTimersByTime(60_000);
    press();
  }
  expect(unseen).toHaveBeenCalledTimes(2);
  end();
  vi.advanceTimersByTime(600_000);
  press();
  expect(unseen).toHaveBeenCalledTimes(2);
});
