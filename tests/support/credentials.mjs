// What the table of ways to sign in needs, made anew for each run: see tests/support/credentials.
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));

/** Writes credentials and certificates into a folder; the table that goes with them. */
export function writeTable(folder) {
  execFileSync("cargo", ["run", "-q", "-p", "test-credentials", "--", folder], { cwd: ROOT, stdio: "inherit" });
  return JSON.parse(readFileSync(join(folder, "table.json"), "utf8"));
}
