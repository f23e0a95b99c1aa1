/* The server's own API: JSON, and events as they come. */

const ROOT = "/paw/v1";
const TOKEN = "paw-token";

/** What the server refused: a sentence, and where there is a way out, a hint. */
export class ApiError extends Error {
  constructor(status, body) {
    super(body.message ?? `the server answered ${status}`);
    this.status = status;
    this.hint = body.hint;
  }
}

/** Keep the token that a link brought behind `#token=`, out of the address and of the history. */
export function takeToken() {
  const found = /^#token=([^&]+)/.exec(location.hash);
  if (!found) return;
  sessionStorage.setItem(TOKEN, decodeURIComponent(found[1]));
  history.replaceState(null, "", "#/");
}

export const setToken = (token) => sessionStorage.setItem(TOKEN, token);

/** The path of what is said of a function: `/run`, `/cases`. */
export const pathOf = (what, ref) => `/${what}/${encodeURIComponent(ref)}`;

/** Ask for JSON. */
export async function ask(method, path, { body, signal } = {}) {
  return (await request(method, path, body, signal)).json();
}

/** Ask for events: each is `{event, data}`; an `error` among them is thrown. */
export async function* listen(method, path, { body, signal } = {}) {
  const response = await request(method, path, body, signal);
  if (!response.headers.get("content-type")?.startsWith("text/event-stream")) {
    throw new ApiError(response.status, { message: "the server sent no events" });
  }
  let rest = "";
  for await (const text of pieces(response.body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + text).replace(/\r\n/g, "\n").split("\n\n");
    rest = blocks.pop();
    for (const found of blocks.map(read).filter(Boolean)) {
      if (found.event === "error") throw new ApiError(response.status, found.data);
      yield found;
    }
  }
}

async function request(method, path, body, signal) {
  const headers = {};
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  let response;
  try {
    const sent = body === undefined ? undefined : JSON.stringify(body);
    response = await fetch(ROOT + path, { method, headers, body: sent, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, {
      message: "the server does not answer",
      hint: "Is `paw-mlx serve` still running?",
    });
  }
  if (response.ok) return response;
  throw new ApiError(response.status, await response.json().catch(() => ({})));
}

/** What a stream brings, in every browser: Safari's cannot be iterated. */
async function* pieces(stream) {
  const reader = stream.getReader();
  try {
    for (let next; !(next = await reader.read()).done;) yield next.value;
  } finally {
    reader.cancel().catch(() => {});
  }
}

function read(block) {
  let event = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) event = line.slice(6).trim();
    else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
  }
  return data.length ? { event, data: JSON.parse(data.join("\n")) } : null;
}
