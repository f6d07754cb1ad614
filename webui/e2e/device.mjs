// A device: a network namespace beside the cell's, a stock WireGuard client in it (the kernel's, or wireguard-go) with the
// file that the browser saved, and a browser that runs there. Needs root.

import { execFileSync, spawn } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { chromium } from 'playwright-core';
import { CHROMIUM, CHROMIUM_ARGUMENTS } from './lib.mjs';

/** Addresses for documentation (RFC 5737): the cell's, seen from outside, and the device's. */
export const CELL_ADDRESS = '203.0.113.10';
const DEVICE_ADDRESS = '203.0.113.101';
/** wg-quick takes no longer names. */
const LINK = `wu${process.pid}`;
const SOCKET = `/var/run/wireguard/${LINK}.sock`;

const ip = (...words) => execFileSync('ip', words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });

export class Device {
  namespace = `cell-ui-${process.pid}`;
  #folder = mkdtempSync(join(tmpdir(), 'cell-ui-device-'));
  #daemon;

  /** Joins the namespace of the cell and brings the tunnel up. */
  async up(cellNamespace, config) {
    const { namespace } = this;
    ip('netns', 'add', namespace);
    ip('-n', namespace, 'link', 'set', 'lo', 'up');
    const far = `to-${process.pid}`;
    ip('-n', namespace, 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', far, 'netns', cellNamespace);
    for (const [name, link, address] of [
      [cellNamespace, far, CELL_ADDRESS],
      [namespace, 'eth0', DEVICE_ADDRESS],
    ]) {
      ip('-n', name, 'address', 'add', `${address}/24`, 'dev', link);
      ip('-n', name, 'link', 'set', link, 'up');
    }
    await this.#makeLink();
    this.#configure(config);
  }

  /** The moment of the latest handshake by the client's own tools, in seconds since 1970; 0 when there was none. */
  handshake() {
    const shown = this.run('wg', 'show', LINK, 'latest-handshakes');
    return Number(shown.trim().split(/\s+/)[1] ?? 0);
  }

  run(program, ...words) {
    return ip('netns', 'exec', this.namespace, program, ...words);
  }

  /** Chromium in the namespace, with the certificate (PEM) as its user's authority; without one it trusts the usual alone. */
  async browser(name, rootCertificate, resolve) {
    const home = join(this.#folder, name);
    const store = join(home, '.pki/nssdb');
    mkdirSync(store, { recursive: true });
    const certutil = (...words) => execFileSync('certutil', ['-d', `sql:${store}`, ...words], { stdio: 'pipe' });
    certutil('-N', '--empty-password');
    if (rootCertificate) {
      const path = join(home, 'root.pem');
      writeFileSync(path, rootCertificate);
      certutil('-A', '-t', 'C,,', '-n', 'cell', '-i', path);
    }
    const wrapper = join(home, 'chromium');
    writeFileSync(wrapper, `#!/bin/sh\nexec ip netns exec ${this.namespace} ${CHROMIUM} "$@"\n`, { mode: 0o755 });
    return chromium.launch({
      executablePath: wrapper,
      env: { ...process.env, HOME: home },
      args: [...CHROMIUM_ARGUMENTS, `--host-resolver-rules=${resolve}`],
    });
  }

  async down() {
    for (const clean of [
      () => ip('-n', this.namespace, 'link', 'delete', LINK),
      () => ip('netns', 'delete', this.namespace),
    ]) {
      try {
        clean();
      } catch {
        // It was never made.
      }
    }
    this.#daemon?.kill();
    rmSync(SOCKET, { force: true });
    rmSync(this.#folder, { recursive: true, force: true });
  }

  async #makeLink() {
    try {
      ip('-n', this.namespace, 'link', 'add', LINK, 'type', 'wireguard');
      return;
    } catch {
      // This kernel has no WireGuard.
    }
    const words = ['netns', 'exec', this.namespace, 'wireguard-go', '--foreground', LINK];
    const env = { ...process.env, WG_I_PREFER_BUGGY_USERSPACE_TO_POLISHED_KMOD: '1' };
    this.#daemon = spawn('ip', words, { stdio: 'ignore', env });
    for (let i = 0; i < 200 && !existsSync(SOCKET); i++) await new Promise((done) => setTimeout(done, 50));
    if (!existsSync(SOCKET)) throw new Error('wireguard-go does not start');
  }

  #configure(config) {
    const path = join(this.#folder, `${LINK}.conf`);
    writeFileSync(path, config, { mode: 0o600 });
    const stripped = execFileSync('wg-quick', ['strip', path], { encoding: 'utf8' });
    writeFileSync(path, stripped, { mode: 0o600 });
    this.run('wg', 'setconf', LINK, path);
    for (const address of values(config, 'Address')) ip('-n', this.namespace, 'address', 'add', address, 'dev', LINK);
    ip('-n', this.namespace, 'link', 'set', LINK, 'mtu', '1420', 'up');
    for (const net of values(config, 'AllowedIPs').flatMap(halves)) {
      ip('-n', this.namespace, 'route', 'replace', net, 'dev', LINK);
    }
  }
}

/** `Address = a, b` of a wg-quick file. */
function values(config, name) {
  const lines = [...config.matchAll(new RegExp(`^${name} *= *(.*)$`, 'gm'))];
  return lines.flatMap(([, list]) => list.split(',').map((value) => value.trim()));
}

/** Two halves win against a default route that is there. */
function halves(net) {
  if (net === '0.0.0.0/0') return ['0.0.0.0/1', '128.0.0.0/1'];
  if (net === '::/0') return ['::/1', '8000::/1'];
  return [net];
}
