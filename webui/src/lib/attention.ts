/**
 * Whether somebody sits before this page. Told by the person's input, not by what the page fetches: a tab that is left open
 * fetches too, and must not keep a session alive.
 */

/** Without input for this long, what the page asks for is its own business. */
const AWAY_MILLIS = 60_000;
/** Somebody who reads or types without asking for anything is seen by the cell this often. */
const SEEN_MILLIS = 5 * 60_000;

const INPUTS = ['pointerdown', 'keydown', 'wheel', 'touchstart'] as const;

// Whoever opened the page was there.
let lastInput = Date.now();
let lastAsked = Date.now();

/** Begins to watch; the answer ends it. `onUnseen`: there is input, but the cell has heard nothing of it for minutes. */
export function watchAttention(onUnseen: () => void): () => void {
  const note = () => {
    lastInput = Date.now();
    if (lastInput - lastAsked < SEEN_MILLIS) return;
    lastAsked = lastInput;
    onUnseen();
  };
  for (const input of INPUTS) window.addEventListener(input, note, { capture: true, passive: true });
  return () => {
    for (const input of INPUTS) window.removeEventListener(input, note, { capture: true });
  };
}

/** To be asked once for every request that is sent. */
export function isAttended(): boolean {
  const now = Date.now();
  if (now - lastInput >= AWAY_MILLIS) return false;
  lastAsked = now;
  return true;
}
