// The least of a client: one request, so that tests can look at the server behind the bus's back.
import { connect as dial } from "node:net";

export function request(port, subject, body) {
  return new Promise((resolve, reject) => {
    const socket = dial(port, "127.0.0.1");
    let text = "";
    socket.on("error", reject);
    socket.on("data", (data) => {
      text += data;
      const found = /MSG raw\.reply 1 (\d+)\r\n/.exec(text);
      if (!found) return;
      const start = found.index + found[0].length;
      if (text.length < start + Number(found[1])) return;
      socket.destroy();
      resolve(text.slice(start, start + Number(found[1])));
    });
    socket.write(
      `CONNECT {"verbose":false}\r\nSUB raw.reply 1\r\nPUB ${subject} raw.reply ${body.length}\r\n${body}\r\n`,
    );
  });
}

/** The answer of a JetStream API call. */
export async function api(port, call, body) {
  return JSON.parse(await request(port, `$JS.API.${call}`, body === undefined ? "" : JSON.stringify(body)));
}
