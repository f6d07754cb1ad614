// What a run found: a table for people, rows for machines, as the other targets write them (lab/src/report.rs).

import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';

const HEADER = ['what', 'found', 'unit', 'goal', ''];
/** Longer texts belong to the error below the table. */
const WIDTH = 84;

export class Report {
  rows = [];

  /** `unit` is empty for a plain fact. */
  add(name, value, unit, goal, ok) {
    this.rows.push({ name, value: String(value), unit, goal, ok });
    console.log(`${ok ? 'ok    ' : 'FAILED'}  ${name}: ${value} ${unit}`.trimEnd());
  }

  /** A run that looked at nothing shows nothing. */
  get ok() {
    return this.rows.length > 0 && this.rows.every((row) => row.ok);
  }

  table() {
    const lines = this.rows.map(({ name, value, unit, goal, ok }) => [name, value, unit, goal, ok ? 'ok' : 'FAILED']);
    const all = [HEADER, ...lines].map((line) => line.map((text) => text.split('\n')[0].slice(0, WIDTH)));
    const widths = HEADER.map((_, column) => Math.max(...all.map((line) => line[column].length)));
    const row = (line) => `│ ${line.map((text, column) => text.padEnd(widths[column])).join(' │ ')} │`;
    const rule = (left, middle, right) => left + widths.map((width) => '─'.repeat(width + 2)).join(middle) + right;
    const [head, ...body] = all.map(row);
    return [rule('┌', '┬', '┐'), head, rule('├', '┼', '┤'), ...body, rule('└', '┴', '┘')].join('\n');
  }

  write(path) {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, `${JSON.stringify(this.rows, undefined, 2)}\n`);
  }
}
