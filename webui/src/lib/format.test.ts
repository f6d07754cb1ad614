import { describe, expect, it } from 'vitest';
import { t } from '../i18n';
import { formatAge, formatAgo, formatBytes, formatCountdown } from './format';
import { passwordStrength } from './password';

describe('format', () => {
  it.each([
    [0, '0 B'],
    [999, '999 B'],
    [1000, '1 kB'],
    [1550, '1.6 kB'],
    [999_949, '999.9 kB'],
    [999_950, '1 MB'],
    [1.5e12, '1.5 TB'],
    [9e18, '9,000 PB'],
  ])('writes %d bytes as %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  it.each([
    [-5, '0 s'],
    [59.9, '59 s'],
    [60, '1 min'],
    [3599, '59 min'],
    [3600, '1 h'],
    [86_399, '23 h'],
    [86_400, '1 d'],
  ])('writes an age of %d s as %s', (seconds, text) => expect(formatAge(seconds)).toBe(text));

  it.each([
    [-30, 'just now'],
    [4.9, 'just now'],
    [5, '5 s ago'],
    [7200, '2 h ago'],
  ])('writes what was %d s ago as %s', (seconds, text) => expect(formatAgo(seconds)).toBe(text));

  it.each([
    [900, '15:00'],
    [65, '1:05'],
    [0.2, '0:01'],
    [0, '0:00'],
  ])('counts %d s down as %s', (seconds, text) => expect(formatCountdown(seconds)).toBe(text));

  it('knows one from many', () => {
    expect(t.count(1, 'device', 'devices')).toBe('1 device');
    expect(t.count(1200, 'device', 'devices')).toBe('1,200 devices');
  });
});

describe('password strength', () => {
  it.each([
    ['short', 0],
    ['aaaaaaaaaaaa', 1],
    ['correcthorse', 2],
    ['correct horse battery staple', 4],
  ])('of %j is %d', (password, strength) => expect(passwordStrength(password)).toBe(strength));
});
