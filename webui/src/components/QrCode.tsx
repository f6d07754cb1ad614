/** Black on white in every theme, quiet zone inside the picture: inverted codes are not read by many phones. */

import { useMemo } from 'react';
import { qrMatrix, qrPath } from '../lib/qr';

export function QrCode({ text, label }: { text: string; label: string }) {
  const { size, path } = useMemo(() => {
    const matrix = qrMatrix(text);
    return { size: matrix.length, path: qrPath(matrix) };
  }, [text]);
  return (
    <div className="mx-auto w-full max-w-80 rounded-2xl border border-line bg-white p-2 scheme-light forced-color-adjust-none">
      <svg
        role="img"
        aria-label={label}
        data-testid="qr"
        viewBox={`0 0 ${size} ${size}`}
        shapeRendering="crispEdges"
        className="block h-auto w-full"
      >
        <path fill="#fff" d={`M0 0h${size}v${size}H0z`} />
        <path fill="#000" d={path} />
      </svg>
    </div>
  );
}
