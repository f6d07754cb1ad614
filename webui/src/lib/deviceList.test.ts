import { describe, expect, it } from 'vitest';
import { peer, seen } from '../test/cell';
import { presenceOf } from './activity';
import { COLUMNS, filterPeers, searchFromView, sortPeers, type View, viewFromSearch } from './deviceList';

const ALL: View = { text: '', state: undefined, access: undefined, sort: 'name', descending: false, page: 1 };
const PEERS = [
  seen('b10', 10, { ipv4: '10.86.0.10', access: {} }),
  seen('B2', 400, { ipv4: '10.86.0.9', created_at: '2026-11-01T00:00:00Z' }),
  peer('a', { access: { services: [{ address: '192.168.1.5', protocol: 'tcp', port: 631 }] } }),
  peer('unreached', { activity: null }),
];

const names = (part: Partial<View>) => {
  const view = { ...ALL, ...part };
  return filterPeers(sortPeers(PEERS, view.sort, view.descending), view, Date.now()).map((p) => p.name);
};

describe('presence', () => {
  it('follows the 180 s of WireGuard, and unknown is not off', () => {
    const state = (p: Parameters<typeof presenceOf>[0]) => presenceOf(p, Date.now()).state;
    expect(state(seen('x', 179))).toBe('connected');
    expect(state(seen('x', 181))).toBe('away');
    expect(state(peer('x'))).toBe('never');
    expect(state(peer('x', { activity: null }))).toBe('unknown');
    // A clock that runs behind the cell's must not make an age negative.
    expect(presenceOf(seen('x', -30), Date.now())).toEqual({ state: 'connected', ageSeconds: 0 });
  });
});

describe('device list', () => {
  it('sorts by every column, both ways', () => {
    expect(names({})).toEqual(['a', 'B2', 'b10', 'unreached']);
    expect(names({ descending: true })).toEqual(['unreached', 'b10', 'B2', 'a']);
    expect(names({ sort: 'state' })[0]).toBe('b10');
    expect(names({ sort: 'address' }).slice(-2)).toEqual(['B2', 'b10']);
    expect(names({ sort: 'traffic' })[0]).toBe('unreached');
    expect(names({ sort: 'added' })[0]).toBe('B2');
    expect(names({ sort: 'access' })[0]).toBe('b10');
  });

  it('filters by text, state and access', () => {
    expect(names({ text: ' B1 ' })).toEqual(['b10']);
    expect(names({ text: '0.9' })).toEqual(['B2']);
    expect(names({ state: 'on' })).toEqual(['b10']);
    expect(names({ state: 'off' })).toEqual(['B2']);
    expect(names({ state: 'never' })).toEqual(['a']);
    expect(names({ access: 'services' })).toEqual(['a']);
    expect(names({ access: 'none' })).toEqual(['b10']);
  });

  it('keeps the view in the URL and reads it back', () => {
    for (const sort of COLUMNS) {
      const view: View = { text: 'ä&=#', state: 'on', access: 'p2p', sort, descending: true, page: 3 };
      expect(viewFromSearch(searchFromView(view))).toEqual(view);
    }
    expect(searchFromView(ALL)).toBe('');
    expect(viewFromSearch('?sort=colour&state=maybe&page=-4&dir=up')).toEqual(ALL);
  });
});
