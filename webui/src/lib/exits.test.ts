import { expect, test } from 'vitest';
import { connection, peer } from '../test/cell';
import { failOpenOf, fieldsOf, importOf, isCarried, opens, ownWord, TYPES, usersOf } from './exits';

test('a device’s own word is three-valued, and reads back', () => {
  for (const fail_open of [null, false, true]) {
    expect(ownWord(failOpenOf(peer('a', { fail_open })))).toBe(fail_open);
  }
});

test('only tor lets out by itself, and the device’s word counts more', () => {
  const tor = connection('tor', { type: 'tor' });
  const vpn = connection('vpn');
  expect(opens(peer('a'), tor)).toBe(true);
  expect(opens(peer('a'), vpn)).toBe(false);
  expect(opens(peer('a'), undefined)).toBe(false);
  expect(opens(peer('a', { fail_open: false }), tor)).toBe(false);
  expect(opens(peer('a', { fail_open: true }), vpn)).toBe(true);
});

test('who is bound and who falls back uses an exit', () => {
  const vpn = connection('vpn');
  const all = [
    peer('bound', { exit_connection_id: vpn.id }),
    peer('other', { exit_connection_id: 'x' }),
    peer('spare', { exit_connection_id: 'x', fallback_connection_ids: [vpn.id] }),
  ];
  expect(usersOf(vpn, all)).toEqual(['bound', 'spare']);
});

test('an import holds what its type takes and nothing else', () => {
  const filled = { file: 'f', url: 'u', target: '', username: 'n' };
  expect(importOf('wireguard_ext', filled)).toEqual({ file: 'f' });
  expect(importOf('openvpn', filled)).toEqual({ file: 'f', username: 'n' });
  expect(importOf('proxy', filled)).toEqual({ url: 'u' });
  expect(importOf('sshuttle', filled)).toEqual({});
  expect(importOf('tor', filled)).toBeUndefined();
  expect(TYPES.filter((type) => fieldsOf(type).length === 0)).toEqual(['tor']);
});

test('types that nothing carries are not offered', () => {
  expect(isCarried(connection('a'))).toBe(true);
  expect(isCarried(connection('a', { type: 'openvpn' }))).toBe(true);
  expect(isCarried(connection('a', { type: 'cell_relay' }))).toBe(false);
});
