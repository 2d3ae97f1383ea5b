/** Finds and loads the native addon. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type * as Addon from "./addon";

export type { Addon };

/** The file names the addon may have here, the likeliest first. */
function names(): string[] {
  const base = `nats-eventbus.${process.platform}-${process.arch}`;
  return process.platform === "linux" ? [`${base}-gnu.node`, `${base}-musl.node`] : [`${base}.node`];
}

function load(): typeof Addon {
  const folder = join(__dirname, "..", "native");
  let cause: unknown;
  for (const file of names().map((name) => join(folder, name))) {
    if (!existsSync(file)) continue;
    try {
      return require(file) as typeof Addon;
    } catch (e) {
      // On Linux the other C library's addon may be the one that loads.
      cause = e;
    }
  }
  const code = (cause as { code?: unknown } | undefined)?.code;
  if (code === "ERR_DLOPEN_DISABLED" || (process as { permission?: unknown }).permission) {
    const flags = `--allow-addons --allow-fs-read=${join(folder, "..")}`;
    throw new Error(`nats-eventbus is native code, which node --permission does not load: run node with ${flags}`, {
      cause,
    });
  }
  const what = `${process.platform}-${process.arch}`;
  throw new Error(`nats-eventbus has no native addon for ${what} that loads from ${folder}: run "npm run build"`, {
    cause,
  });
}

/** The native addon. */
export const addon: typeof Addon = load();
