/** Curve25519 key pairs for WireGuard, made in this browser (RFC 7748). */

/** Base64 halves, 44 characters each. The private half goes into the QR code or file and nowhere else. */
export interface KeyPair {
  privateKey: string;
  publicKey: string;
}

const KEY_BYTES = 32;

/** Makes a pair by WebCrypto, or by `@noble/curves` where the page has no WebCrypto X25519 (plain http, old browsers). */
export async function makeKeyPair(subtle: SubtleCrypto | undefined = globalThis.crypto.subtle): Promise<KeyPair> {
  return (subtle && (await makeByWebCrypto(subtle))) ?? makeByNoble();
}

/** `undefined` when the browser does not know X25519. */
export async function makeByWebCrypto(subtle: SubtleCrypto): Promise<KeyPair | undefined> {
  let pair: CryptoKeyPair;
  try {
    pair = (await subtle.generateKey({ name: 'X25519' }, true, ['deriveBits'])) as CryptoKeyPair;
  } catch {
    return undefined;
  }
  const jwk = await subtle.exportKey('jwk', pair.privateKey);
  if (!jwk.d || !jwk.x) return undefined;
  const bytes = fromBase64(jwk.d.replaceAll('-', '+').replaceAll('_', '/'));
  const privateKey = toBase64(clamp(bytes));
  bytes.fill(0);
  return { privateKey, publicKey: `${jwk.x.replaceAll('-', '+').replaceAll('_', '/')}=` };
}

/** Makes a pair by `@noble/curves`, from the browser's random source. */
export async function makeByNoble(): Promise<KeyPair> {
  const bytes = clamp(crypto.getRandomValues(new Uint8Array(KEY_BYTES)));
  const publicKey = await publicKeyOf(bytes);
  const privateKey = toBase64(bytes);
  bytes.fill(0);
  return { privateKey, publicKey };
}

/** The public half, base64, as `wg pubkey` prints it. */
export async function publicKeyOf(privateKey: Uint8Array): Promise<string> {
  const { x25519 } = await import('@noble/curves/ed25519.js');
  return toBase64(x25519.getPublicKey(privateKey));
}

/** Whether `text` is the base64 of 32 bytes in its one canonical form. */
export function isKey(text: string): boolean {
  if (!/^[A-Za-z0-9+/]{43}=$/.test(text)) return false;
  return toBase64(fromBase64(text)) === text;
}

/** As `wg genkey` does it (RFC 7748, section 5): tools compare private keys bytewise. */
function clamp(key: Uint8Array): Uint8Array {
  key[0] = (key[0] ?? 0) & 0xf8;
  key[31] = ((key[31] ?? 0) & 0x7f) | 0x40;
  return key;
}

export function toBase64(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes));
}

export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}
