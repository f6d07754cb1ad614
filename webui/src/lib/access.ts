/**
 * Who may use a service, as switches change it. The cell takes the list as a whole, so what is asked for while one request is
 * on its way is sent after it, and nothing that was switched meanwhile is lost.
 */

import type { Service } from '../api/types';

export interface Access {
  everyone: boolean;
  peers: ReadonlySet<string>;
}

export function accessOf(service: Pick<Service, 'everyone' | 'allowed_peers'>): Access {
  return { everyone: service.everyone, peers: new Set(service.allowed_peers) };
}

/** One switch turned. */
export type Turn = { everyone: boolean } | { peer: string; may: boolean };

export function turned(access: Access, turn: Turn): Access {
  if ('everyone' in turn) return { everyone: turn.everyone, peers: turn.everyone ? new Set() : access.peers };
  const peers = new Set(access.peers);
  if (turn.may) peers.add(turn.peer);
  else peers.delete(turn.peer);
  return { ...access, peers };
}

/** Sends turns of one service, one request at a time; between two of them it takes what has been asked for since. */
export class AccessWriter {
  private turns: Turn[] = [];
  private busy = false;

  constructor(
    private readonly read: () => Access | undefined,
    private readonly write: (access: Access) => Promise<void>,
    /** After each change of what is shown; the error of the last request, if it failed. */
    private readonly tell: (error: unknown) => void,
  ) {}

  /** What is to be shown: what the cell has, with what is not sent yet. */
  shown(): Access | undefined {
    const stored = this.read();
    return stored && this.turns.reduce(turned, stored);
  }

  turn(turn: Turn): void {
    this.turns.push(turn);
    this.tell(undefined);
    if (!this.busy) void this.send();
  }

  private async send(): Promise<void> {
    this.busy = true;
    let failure: unknown;
    while (this.turns.length > 0) {
      const access = this.shown();
      const count = this.turns.length;
      try {
        if (access) await this.write(access);
        this.turns.splice(0, count);
      } catch (error) {
        // What was not taken is shown as it is.
        this.turns = [];
        failure = error;
      }
    }
    this.busy = false;
    this.tell(failure);
  }
}
