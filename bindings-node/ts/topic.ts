/** Topics. */
import { ConfigError, guard } from "./errors";
import { addon } from "./native";

/**
 * Builds a topic from tokens, which may be untrusted: `topic("coze", "workflow", id, "done")`.
 * @throws {@link InvalidTopic} when a token is empty or holds `.`, `*`, `>`, white space or control characters;
 * {@link ConfigError} for a number that is no exact integer.
 */
export function topic(...tokens: readonly (string | number | bigint)[]): string {
  const texts = tokens.map((token, i) => {
    if (typeof token === "string") return token;
    if (typeof token === "bigint" || Number.isSafeInteger(token)) return String(token);
    throw new ConfigError(`token ${i + 1} of the topic, ${String(token)}, is not a string nor an exact integer`);
  });
  return guard(() => addon.topic(texts));
}
