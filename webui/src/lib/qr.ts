/** QR codes that phones can read: level L (fewest modules), quiet zone of four modules (ISO/IEC 18004, section 5.3.8). */

import { encode } from 'uqr';

export const QUIET_ZONE = 4;

/** Rows of modules, quiet zone included; `true` is black. */
export function qrMatrix(text: string): boolean[][] {
  return encode(text, { ecc: 'L', boostEcc: false, border: QUIET_ZONE }).data;
}

/** One SVG path in module units: a run of black modules is one rectangle. */
export function qrPath(matrix: boolean[][]): string {
  let path = '';
  matrix.forEach((row, y) => {
    for (let x = 0; x < row.length; x++) {
      if (!row[x]) continue;
      const start = x;
      while (row[x + 1]) x++;
      path += `M${start} ${y}h${x - start + 1}v1h-${x - start + 1}z`;
    }
  });
  return path;
}
