import { describe, expect, it } from 'vitest';
import { QUIET_ZONE, qrMatrix, qrPath } from './qr';

const CONFIG = `[Interface]\nPrivateKey = ${'k'.repeat(43)}=\nAddress = 10.86.0.2/32, fd12:3456:789a::2/128\n`;

describe('QR code', () => {
  it('has four white modules on every side', () => {
    const matrix = qrMatrix(CONFIG);
    const size = matrix.length;
    expect(matrix.every((row) => row.length === size)).toBe(true);
    const edge = (i: number) => i < QUIET_ZONE || i >= size - QUIET_ZONE;
    matrix.forEach((row, y) => {
      row.forEach((black, x) => {
        if (edge(x) || edge(y)) expect(black).toBe(false);
      });
    });
    // The finder pattern begins right behind it.
    expect(matrix[QUIET_ZONE]?.slice(QUIET_ZONE, QUIET_ZONE + 7)).toEqual(Array(7).fill(true));
  });

  it('is at level L: format information bits 01 under the mask (ISO/IEC 18004, table 12)', () => {
    const matrix = qrMatrix(CONFIG);
    const row = matrix[QUIET_ZONE + 8] ?? [];
    // The two highest bits of the format information, XOR 10 of the mask pattern.
    expect([row[QUIET_ZONE], row[QUIET_ZONE + 1]]).toEqual([true, true]);
  });

  it('draws every black module once', () => {
    const matrix = qrMatrix(CONFIG);
    const drawn = matrix.map((row) => row.map(() => 0));
    for (const [, x, y, run] of qrPath(matrix).matchAll(/M(\d+) (\d+)h(\d+)v1h-\d+z/g)) {
      for (let i = 0; i < Number(run); i++) {
        const line = drawn[Number(y)];
        if (line) line[Number(x) + i] = (line[Number(x) + i] ?? 0) + 1;
      }
    }
    expect(drawn).toEqual(matrix.map((row) => row.map(Number)));
  });
});
