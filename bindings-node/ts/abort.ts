/** Waits that an AbortSignal ends: one listener a signal, however many waits there are. */

const waits = new WeakMap<AbortSignal, Set<() => void>>();

/** @internal Calls `f` when the signal is aborted, once; the function returned takes that back. */
export function onAbort(signal: AbortSignal, f: () => void): () => void {
  let all = waits.get(signal);
  if (!all) {
    all = new Set();
    waits.set(signal, all);
  }
  if (all.size === 0) signal.addEventListener("abort", ended, { once: true });
  all.add(f);
  const mine = all;
  return () => {
    if (mine.delete(f) && mine.size === 0) signal.removeEventListener("abort", ended);
  };
}

function ended(this: AbortSignal): void {
  const all = waits.get(this);
  if (!all) return;
  waits.delete(this);
  for (const f of [...all]) f();
}
