/** SIGTERM and SIGINT while a bus runs. Listeners of others are called too, and stay. */

const NAMES = ["SIGTERM", "SIGINT"] as const;
/** The first signal drains, the second gives up; a further one has its default, or is for others. */
const OURS = 2;

/** @internal Calls `onSignal` with the first two of SIGTERM and SIGINT; the function returned ends that. */
export function takeSignals(onSignal: () => void): () => void {
  let count = 0;
  const release = () => {
    for (const name of NAMES) process.off(name, taken);
  };
  const taken = () => {
    count += 1;
    if (count === OURS) release();
    onSignal();
  };
  for (const name of NAMES) process.on(name, taken);
  return release;
}
