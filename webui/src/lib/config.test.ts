import { describe, expect, it } from 'vitest';
import { configFileName, hasPrivateKey, withPrivateKey } from './config';

const KEY = `${'k'.repeat(42)}8=`;
const CONFIG = '[Interface]\nPrivateKey = \nAddress = 10.86.0.2/32\n\n[Peer]\nPublicKey = x\n';

describe('configuration', () => {
  it('gets the key in its one empty line, and nothing else changes', () => {
    const text = withPrivateKey(CONFIG, KEY);
    expect(text).toBe(CONFIG.replace('PrivateKey = ', `PrivateKey = ${KEY}`));
    expect(hasPrivateKey(text)).toBe(true);
    expect(hasPrivateKey(CONFIG)).toBe(false);
  });

  it('takes a key with $ as it is', () => {
    expect(withPrivateKey(CONFIG, "$&$'")).toContain("PrivateKey = $&$'\n");
  });

  it.each([['[Interface]\n'], [`${CONFIG}${CONFIG}`], [withPrivateKey(CONFIG, KEY)]])(
    'refuses a text without exactly one empty line',
    (text) => expect(() => withPrivateKey(text, KEY)).toThrow('PrivateKey'),
  );

  it.each([
    ['ana-phone', 'ana-phone.conf'],
    ['a.very_long.device-name', 'a.very_long.dev.conf'],
    ['a b/c', 'a-b-c.conf'],
    ['', 'cell.conf'],
  ])('names the file of %j %s, as wg-quick takes it', (name, file) => expect(configFileName(name)).toBe(file));
});
