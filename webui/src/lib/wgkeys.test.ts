import { describe, expect, it } from 'vitest';
import { fromBase64, isKey, makeByNoble, makeByWebCrypto, makeKeyPair, publicKeyOf } from './wgkeys';

// Made by `wg genkey | tee key | wg pubkey`.
const VECTORS = [
  ['4KU81fZLAJwUjI85ID8U24l+2WsoZ554kFjPocEW2EI=', 'YLmwhZqq/VKNV5otyYYDQbTNDnsyNQJtYKVgE4tlcnE='],
  ['0ALKLaN5p8GDM1ArsPDa1VeGNwyEYIUnZnoS05SH0Uw=', '6+Qln19gD+8yTlr4uF+KKgmvkuf9l7usi8Yzte3asWY='],
  ['wJbRUFHJljFrux22bh15wcBPmNrovK+IL1LehoqcHE0=', 'udPj8UO1jLir3e3fKSi7IKS5gsSTyRfkSEKGPOQGXyc='],
  ['6LCVzjvnqXMJPRuOsFGjPeRWy1qf1cdgvmLoXGeqqF8=', 'oQo+DFZSC9kHaKbZoDmJPUm5TUcTzlBA369UgOJKATo='],
  ['gALRk/HYqiv7eOkn2fF6gV8yP4c2MEdtMCMKOhKmEnQ=', 'RLtGkIZ0XL2qG+Nti6dJBOYMoaIC8Fhx7ixQfEXSu0w='],
] as const;

describe('wgkeys', () => {
  it.each(VECTORS)('derives what wg pubkey derives from %s', async (privateKey, publicKey) => {
    expect(await publicKeyOf(fromBase64(privateKey))).toBe(publicKey);
  });

  it('makes clamped pairs whose halves belong together, by WebCrypto and by noble', async () => {
    const pairs = [await makeByWebCrypto(crypto.subtle), await makeByNoble(), await makeByNoble()];
    for (const pair of pairs) {
      if (!pair) throw new Error('this runtime has no X25519');
      expect(isKey(pair.privateKey) && isKey(pair.publicKey)).toBe(true);
      const bytes = fromBase64(pair.privateKey);
      expect((bytes[0] ?? 0) & 7).toBe(0);
      expect((bytes[31] ?? 0) & 0xc0).toBe(0x40);
      expect(await publicKeyOf(bytes)).toBe(pair.publicKey);
    }
    expect(new Set(pairs.map((pair) => pair?.privateKey)).size).toBe(3);
  });

  it('falls back where WebCrypto is absent or does not know X25519', async () => {
    expect(isKey((await makeKeyPair(undefined)).publicKey)).toBe(true);
    const old = { generateKey: () => Promise.reject(new DOMException('no', 'NotSupportedError')) };
    const pair = await makeKeyPair(old as unknown as SubtleCrypto);
    expect(await publicKeyOf(fromBase64(pair.privateKey))).toBe(pair.publicKey);
  });

  it.each(['', 'abc', `${'A'.repeat(44)}`, `${'A'.repeat(42)}==`, `${'A'.repeat(42)}B=`, ` ${'A'.repeat(43)}=`])(
    'refuses %j as a key',
    (text) => expect(isKey(text)).toBe(false),
  );
});
