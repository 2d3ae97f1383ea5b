/** JSON whose integers stay exact, whatever their size. */
import { parse, stringify } from "lossless-json";

/** Only texts with as many digits in a row can hold an integer that a double cannot. */
const LONG = /\d{16}/;
const INTEGER = /^-?\d+$/;

function exact(text: string): number | bigint {
  const n = Number(text);
  return Number.isSafeInteger(n) || !INTEGER.test(text) ? n : BigInt(text);
}

const OPTIONS = { parseNumber: exact, onDuplicateKey: (at: { newValue: unknown }) => at.newValue };

/** @internal Reads JSON; integers beyond 2^53 are BigInt. Throws SyntaxError. */
export function decode(text: string): unknown {
  return LONG.test(text) ? parse(text, null, OPTIONS) : JSON.parse(text);
}

/**
 * @internal Writes JSON, BigInt as an integer, and says whether it has one; without a text when the value has no form.
 * Throws TypeError for a cycle.
 */
export function encode(value: unknown): { text: string | undefined; exact: boolean } {
  // A patched BigInt.prototype.toJSON would write ids as texts, which no other language reads as ids.
  if (!("toJSON" in BigInt.prototype)) {
    try {
      return { text: JSON.stringify(value), exact: false };
    } catch (e) {
      if (!(e instanceof TypeError) || !/BigInt/.test(e.message)) throw e;
    }
  }
  return { text: stringify(value), exact: true };
}
