// Fails when the built UI is larger than it may be. Sizes are kB (1000 bytes) after gzip, as a browser without brotli
// gets them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';

const BUDGET_KB = { entry: 110, lazy: 35, css: 12 };

const dist = join(import.meta.dirname, '../dist');
const manifest = JSON.parse(readFileSync(join(dist, '.vite/manifest.json'), 'utf8'));
const size = (file) => gzipSync(readFileSync(join(dist, file)), { level: 9 }).length / 1000;

/** A chunk and what it imports at once; what comes by `import()` is not counted. */
function closure(key, seen = new Set()) {
  if (seen.has(key)) return seen;
  seen.add(key);
  for (const next of manifest[key].imports ?? []) closure(next, seen);
  return seen;
}

const entries = Object.keys(manifest).filter((key) => manifest[key].isEntry);
const first = new Set(entries.flatMap((key) => [...closure(key)]));
const rows = [
  ['entry', 'everything of the first script', [...first].reduce((sum, key) => sum + size(manifest[key].file), 0)],
];
for (const [key, chunk] of Object.entries(manifest)) {
  if (!first.has(key) && chunk.file.endsWith('.js')) rows.push(['lazy', chunk.file, size(chunk.file)]);
}
const sheets = new Set(Object.values(manifest).flatMap((chunk) => chunk.css ?? []));
rows.push(['css', 'all style sheets', [...sheets].reduce((sum, file) => sum + size(file), 0)]);

let over = 0;
for (const [kind, name, kb] of rows.sort((a, b) => b[2] - a[2])) {
  const bad = kb > BUDGET_KB[kind];
  over += bad ? 1 : 0;
  console.log(
    `${bad ? 'OVER' : 'ok  '} ${kb.toFixed(1).padStart(6)} of ${String(BUDGET_KB[kind]).padStart(3)} kB  ${kind.padEnd(5)} ${name}`,
  );
}
process.exit(over > 0 ? 1 : 0);
