/** The wg-quick configuration of a device, as the cell made it. */

const EMPTY_KEY_LINE = /^PrivateKey = *$/m;

/** Puts the private key made here into the line that the cell left empty for it. */
export function withPrivateKey(config: string, privateKey: string): string {
  if (config.match(new RegExp(EMPTY_KEY_LINE, 'gm'))?.length !== 1) {
    throw new Error('the configuration has no single empty PrivateKey line');
  }
  // A function, because "$" in a replacement string has a meaning of its own.
  return config.replace(EMPTY_KEY_LINE, () => `PrivateKey = ${privateKey}`);
}

/** Whether the private key is in it already (the server made it). */
export function hasPrivateKey(config: string): boolean {
  return /^PrivateKey = [A-Za-z0-9+/]{43}=$/m.test(config);
}

/** wg-quick(8) takes the interface's name from the file's: `[a-zA-Z0-9_=+.-]{1,15}.conf`. */
export function configFileName(deviceName: string): string {
  const safe = deviceName.replaceAll(/[^a-zA-Z0-9_=+.-]/g, '-').slice(0, 15);
  return `${safe || 'cell'}.conf`;
}
