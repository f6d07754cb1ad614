import { expect, test } from 'vitest';
import { peer, plan } from '../test/cell';
import { isRisky, made, planned } from './plan';

test.each([
  [plan('gains'), false],
  [plan('nothing'), false],
  [plan('loses'), true],
  [plan('off'), true],
  [plan('new_key'), true],
  [plan('ends'), true],
  [{ ...plan('gains'), confirm_advised: true }, true],
  [{ ...plan('gains'), netd: { takes: false, says: ['no'] } }, true],
  [{ ...plan('gains'), netd: { takes: true, says: [] } }, false],
])('%j is risky: %s', (given, risky) => expect(isRisky(given)).toBe(risky));

test('what was made and what is planned are not taken for each other', async () => {
  const answer = <T>(data: T) => Promise.resolve({ data });
  expect((await made(answer(peer('laptop')))).name).toBe('laptop');
  await expect(made(answer(plan('gains')))).rejects.toThrow('only said');
  expect((await planned(answer(plan('gains')))).statements).toHaveLength(1);
  await expect(planned(answer(peer('laptop')))).rejects.toThrow('did not say');
});
