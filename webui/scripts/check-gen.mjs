// Fails when src/api/gen is not what the generator makes of openapi.json.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const root = join(import.meta.dirname, '..');
const fresh = mkdtempSync(join(tmpdir(), 'cell-webui-gen-'));

function files(folder) {
  return new Map(
    readdirSync(folder, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => join(entry.parentPath, entry.name))
      .map((path) => [path.slice(folder.length + 1), readFileSync(path, 'utf8')]),
  );
}

try {
  const made = spawnSync('npx', ['openapi-ts'], {
    cwd: root,
    env: { ...process.env, GEN_OUTPUT: fresh },
    encoding: 'utf8',
  });
  if (made.status !== 0) throw new Error(made.stdout + made.stderr);
  const want = files(fresh);
  const have = files(join(root, 'src/api/gen'));
  const names = [...new Set([...want.keys(), ...have.keys()])].sort();
  const stale = names.filter((name) => want.get(name) !== have.get(name));
  for (const name of stale) console.error(`src/api/gen/${name} is not what openapi.json says; run: npm run gen`);
  process.exitCode = stale.length > 0 ? 1 : 0;
} finally {
  rmSync(fresh, { recursive: true });
}
