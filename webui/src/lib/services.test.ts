import { describe, expect, it } from 'vitest';
import { field, service } from '../test/cell';
import { isFilled, lacksDocker, patternOf, search, sentValues, shownValues, stateOf, stepsOf } from './services';

describe('the state of a service', () => {
  it('is what a person has to know first', () => {
    expect(stateOf(service('a'))).toBe('running');
    expect(stateOf(service('a', { published: false }))).toBe('closed');
    expect(stateOf(service('a', { published: false, purpose: 'core' }))).toBe('running');
    expect(stateOf(service('a', { stopped: true, published: false }))).toBe('stopped');
    expect(stateOf(service('a', { error: { code: 'UPDATE_TAKEN_BACK', message: '' } }))).toBe('attention');
    expect(stateOf(service('a', { phase: 'installing', stopped: true }))).toBe('installing');
    expect(stateOf(service('a', { phase: 'failed' }))).toBe('failed');
  });

  it('has a place among the steps of what is done', () => {
    expect(stepsOf({ phase: 'installing', step: 'images' }).at).toBe(2);
    expect(stepsOf({ phase: 'updating', step: 'health' }).at).toBe(4);
    expect(stepsOf({ phase: 'updating', step: 'roll_back' })).toEqual({ steps: ['roll_back'], at: 0 });
    expect(stepsOf({ phase: 'updating', step: 'revert' })).toEqual({ steps: ['revert'], at: 0 });
    expect(stepsOf({ phase: 'installed', step: '' })).toEqual({ steps: [], at: -1 });
  });

  it('tells a machine without Docker from other reasons to wait', () => {
    const waits = (code: string) => lacksDocker(service('a', { waiting: { code, message: '' } }));
    expect(waits('NO_DOCKER')).toBe(true);
    expect(waits('NO_CEILING')).toBe(true);
    expect(waits('DOCKER_SLOW')).toBe(false);
    expect(lacksDocker(service('a'))).toBe(false);
  });
});

describe('patterns', () => {
  // The cases of manifest/src/field.rs.
  it.each([
    ['label', ['a', '1-b'], ['', '-a', 'a-', 'A', 'a.b', 'a\n', 'a'.repeat(64)]],
    ['hostname', ['a.b', 'a'], ['a..b', '.a', 'a.', 'a b', 'a/b']],
    ['word', ['a.B_c-1'], ['', '-a', '.a', 'a b', '$(id)', 'a;b', 'a`', 'a\0']],
    ['email', ['a@b.c'], ['a', 'a@', '@b', 'a@b@c', '-a@b', 'a@b\nX: y']],
  ])('%s takes what the cell takes', (pattern, good, bad) => {
    // As browsers do: the whole text, with the flag v.
    const takes = new RegExp(`^(?:${patternOf({ pattern })})$`, 'v');
    expect(good.filter((text) => !takes.test(text))).toEqual([]);
    expect(bad.filter((text) => takes.test(text))).toEqual([]);
  });

  it('leaves what has none to the cell', () => {
    expect(patternOf({ pattern: 'printable' })).toBeUndefined();
    expect(patternOf({ pattern: null })).toBeUndefined();
  });
});

describe('values of a form', () => {
  const form = [
    field('domain'),
    field('port', { kind: 'integer', default: '80', min: 1, max: 99 }),
    field('open', { kind: 'boolean', default: null }),
    field('mode', { kind: 'enum', values: ['a', 'b'], default: 'b' }),
  ];

  it('begin with what is set, then with defaults', () => {
    expect(shownValues(form, { port: '81' })).toEqual({ domain: '', port: '81', open: 'false', mode: 'b' });
  });

  it('are sent where they differ from the defaults', () => {
    const shown = { domain: 'home', port: '80', open: 'false', mode: 'a' };
    expect(sentValues(form, shown)).toEqual({ domain: 'home', open: 'false', mode: 'a' });
    expect(sentValues(form, { ...shown, port: '' })).not.toHaveProperty('port');
  });

  it('are complete when all that has no default is set', () => {
    expect(isFilled(form, shownValues(form, {}))).toBe(false);
    expect(isFilled(form, shownValues(form, { domain: 'x' }))).toBe(true);
  });
});

it('a search finds every word, anywhere', () => {
  const all = [
    { id: 'email', title: 'Email', description: 'Mail between accounts' },
    { id: 'files', title: 'Files', description: 'WebDAV, and a page' },
  ];
  expect(search(all, ' MAIL accounts ').map(({ id }) => id)).toEqual(['email']);
  expect(search(all, 'mail webdav')).toEqual([]);
  expect(search(all, '')).toHaveLength(2);
});
