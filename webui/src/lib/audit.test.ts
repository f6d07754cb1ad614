import { expect, it } from 'vitest';
import { actionWords, detailWords, subjectWords } from './audit';

it('says in words what was done, and leaves out what would be said twice', () => {
  expect(actionWords({ action: 'auth.login-failed' })).toBe('Failed to sign in');
  expect(actionWords({ action: 'weather.change' })).toBe('weather.change');
  expect(subjectWords({ action: 'auth.login', subject: 'anna', actor: 'anna' })).toBe('');
  expect(subjectWords({ action: 'setup.step', subject: 'claim', actor: 'setup' })).toBe('claim code');
  expect(subjectWords({ action: 'peer.create', subject: 'phone', actor: 'anna' })).toBe('phone');
});

it('reads the details of a device, and shows others as they are', () => {
  const detail = 'internet true, peer to peer false, services 192.168.7.9/tcp/8096; full; new key';
  expect(detailWords({ action: 'peer.update', detail })).toBe(
    'May reach: Internet, 192.168.7.9/tcp/8096 · All its traffic · New key',
  );
  const none = 'internet false, peer to peer false, services none; split; key made by the device';
  expect(detailWords({ action: 'peer.create', detail: none })).toBe(
    'May reach: Only the cell · Only traffic for the cell · Its own key',
  );
  expect(detailWords({ action: 'user.create', detail: 'role peer' })).toBe('Member');
  expect(detailWords({ action: 'peer.update', detail: 'something new' })).toBe('something new');
});
