/** Does something at once, and then not again before it is time; what was asked for meanwhile is done once at the end. */

/** What takes long is done less often: at most this part of the time is spent on it. */
const SHARE = 10;

export class Throttle {
  private waiting = false;
  private timer: ReturnType<typeof setTimeout> | undefined;
  private busy = false;

  /** `act` must not throw; the time that it takes counts. */
  constructor(
    private readonly act: () => Promise<void>,
    private readonly everyMillis: number,
  ) {}

  call(): void {
    if (this.busy) this.waiting = true;
    else void this.run();
  }

  /** Forgets what waits. */
  cancel(): void {
    clearTimeout(this.timer);
    this.busy = false;
    this.waiting = false;
  }

  private async run(): Promise<void> {
    this.busy = true;
    this.waiting = false;
    const start = Date.now();
    await this.act();
    if (!this.busy) return;
    const took = Date.now() - start;
    this.timer = setTimeout(() => this.next(), Math.max(this.everyMillis - took, took * (SHARE - 1)));
  }

  private next(): void {
    this.busy = false;
    if (this.waiting) void this.run();
  }
}
