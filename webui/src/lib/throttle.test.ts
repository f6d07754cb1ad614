import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { Throttle } from './throttle';

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

it('acts at once, then once for all that came meanwhile', async () => {
  const act = vi.fn(async () => undefined);
  const throttle = new Throttle(act, 1000);
  throttle.call();
  expect(act).toHaveBeenCalledTimes(1);
  for (let i = 0; i < 20; i++) throttle.call();
  await vi.advanceTimersByTimeAsync(999);
  expect(act).toHaveBeenCalledTimes(1);
  await vi.advanceTimersByTimeAsync(1);
  expect(act).toHaveBeenCalledTimes(2);
  await vi.advanceTimersByTimeAsync(5000);
  expect(act).toHaveBeenCalledTimes(2);
});

it('does less often what takes long: a tenth of the time at most', async () => {
  const act = vi.fn(() => new Promise<void>((done) => setTimeout(done, 2000)));
  const throttle = new Throttle(act, 1000);
  const events = setInterval(() => throttle.call(), 100);
  await vi.advanceTimersByTimeAsync(60_000);
  clearInterval(events);
  expect(act.mock.calls.length).toBeLessThanOrEqual(4);
  expect(act.mock.calls.length).toBeGreaterThanOrEqual(3);
});

it('does nothing more once it is cancelled', async () => {
  const act = vi.fn(async () => undefined);
  const throttle = new Throttle(act, 1000);
  throttle.call();
  throttle.call();
  throttle.cancel();
  await vi.advanceTimersByTimeAsync(5000);
  expect(act).toHaveBeenCalledTimes(1);
});
