/** Headers, in the shapes that applications have. */
import { ConfigError, InvalidHeader } from "./errors";

/** A header's value: a text, or what has one; a list gives the header once for each of its items. */
export type HeaderValue = string | number | bigint | boolean;

/** Headers to send: an object, a `Map`, a `Headers` object, or pairs. A value of undefined leaves the header out. */
export type Headers =
  | Readonly<Record<string, HeaderValue | readonly HeaderValue[] | undefined>>
  | Iterable<readonly [string, HeaderValue | readonly HeaderValue[] | undefined]>;

function text(name: string, value: unknown): string {
  switch (typeof value) {
    case "string":
      return value;
    case "number":
      if (Number.isFinite(value)) return String(value);
      break;
    case "bigint":
    case "boolean":
      return String(value);
  }
  const what = value === null ? "null" : typeof value === "number" ? String(value) : `a ${typeof value}`;
  throw new InvalidHeader(
    `header ${JSON.stringify(name)} is ${what}: give a string, a number, a boolean or a list of those, or leave it out`,
  );
}

/** @internal Names and values in turn. */
export function headerList(headers: Headers | undefined): string[] | undefined {
  if (headers === undefined || headers === null) return undefined;
  if (typeof headers !== "object") throw new ConfigError("headers: give an object of names and texts, a Map, or pairs");
  const pairs: Iterable<unknown> = Symbol.iterator in headers ? headers : Object.entries(headers);
  const out: string[] = [];
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2 || typeof pair[0] !== "string") {
      throw new InvalidHeader("headers: each is to be a pair of a name and a value");
    }
    const [name, value] = pair as [string, unknown];
    if (value === undefined) continue;
    for (const one of Array.isArray(value) ? (value as unknown[]) : [value]) out.push(name, text(name, one));
  }
  return out;
}

/** @internal The value of a header by its name in any case. */
export function lookUp<T>(headers: Readonly<Record<string, T>>, name: string): T | undefined {
  if (Object.hasOwn(headers, name)) return headers[name];
  const folded = name.toLowerCase();
  for (const known of Object.keys(headers)) if (known.toLowerCase() === folded) return headers[known];
  return undefined;
}
