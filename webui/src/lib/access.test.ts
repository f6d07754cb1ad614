import { expect, it } from 'vitest';
import { type Access, AccessWriter, turned } from './access';

const nobody: Access = { everyone: false, peers: new Set() };

/** A cell that answers when it is told to. */
function slowCell(stored: Access) {
  const sent: string[] = [];
  const answers: ((error?: Error) => void)[] = [];
  const told: unknown[] = [];
  const cell = { stored, sent, told, answer: (error?: Error) => answers.shift()?.(error) };
  const write = (access: Access) =>
    new Promise<void>((done, failed) => {
      sent.push(access.everyone ? 'everyone' : [...access.peers].sort().join());
      answers.push((error) => {
        if (error) return failed(error);
        cell.stored = access;
        done();
      });
    });
  const writer = new AccessWriter(
    () => cell.stored,
    write,
    (error) => told.push(error),
  );
  return { cell, writer };
}

const rest = () => new Promise((done) => setTimeout(done));

it('sends one list at a time, and what was switched meanwhile after it', async () => {
  const { cell, writer } = slowCell(nobody);
  writer.turn({ peer: 'a', may: true });
  writer.turn({ peer: 'b', may: true });
  writer.turn({ peer: 'a', may: false });
  expect(cell.sent).toEqual(['a']);
  expect([...(writer.shown()?.peers ?? [])]).toEqual(['b']);
  cell.answer();
  await rest();
  expect(cell.sent).toEqual(['a', 'b']);
  cell.answer();
  await rest();
  expect([...cell.stored.peers]).toEqual(['b']);
  expect(writer.shown()).toEqual(cell.stored);
});

it('keeps what others switched meanwhile', async () => {
  const { cell, writer } = slowCell(nobody);
  writer.turn({ peer: 'a', may: true });
  writer.turn({ peer: 'b', may: true });
  cell.answer();
  cell.stored = { everyone: false, peers: new Set(['a', 'theirs']) };
  await rest();
  expect(cell.sent).toEqual(['a', 'a,b,theirs']);
});

it('shows what the cell has after a refusal, and says why', async () => {
  const { cell, writer } = slowCell(nobody);
  writer.turn({ peer: 'a', may: true });
  writer.turn({ peer: 'b', may: true });
  const refusal = new Error('no');
  cell.answer(refusal);
  await rest();
  expect(writer.shown()).toEqual(nobody);
  expect(cell.told.at(-1)).toBe(refusal);
  writer.turn({ peer: 'c', may: true });
  expect(cell.sent).toEqual(['a', 'c']);
});

it('names nobody where everyone may', () => {
  const some = turned(nobody, { peer: 'a', may: true });
  expect(turned(some, { everyone: true })).toEqual({ everyone: true, peers: new Set() });
  expect(turned(turned(some, { everyone: true }), { everyone: false })).toEqual(nobody);
});
