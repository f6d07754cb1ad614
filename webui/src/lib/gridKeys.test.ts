import { expect, it } from 'vitest';
import { placeAfter } from './gridKeys';

it('keys move within the grid and never out of it', () => {
  const at = { row: 1, column: 2 };
  const go = (key: string, ctrl = false) => placeAfter(key, ctrl, at, 51, 20);
  expect(go('ArrowUp')).toEqual({ row: 0, column: 2 });
  expect(go('ArrowRight')).toEqual({ row: 1, column: 3 });
  expect(go('PageUp')).toEqual({ row: 0, column: 2 });
  expect(go('PageDown')).toEqual({ row: 11, column: 2 });
  expect(go('Home')).toEqual({ row: 1, column: 0 });
  expect(go('End', true)).toEqual({ row: 50, column: 19 });
  expect(go('Home', true)).toEqual({ row: 0, column: 0 });
  expect(placeAfter('ArrowDown', false, { row: 50, column: 0 }, 51, 20)).toEqual({ row: 50, column: 0 });
  expect(placeAfter('ArrowLeft', false, { row: 0, column: 0 }, 51, 20)).toEqual({ row: 0, column: 0 });
});

it('leaves other keys to the browser', () => {
  for (const key of [' ', 'Tab', 'Enter', 'a']) {
    expect(placeAfter(key, false, { row: 0, column: 0 }, 2, 2)).toBeUndefined();
  }
});
