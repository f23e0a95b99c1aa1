/* Work that takes a while: a bar, and a button that stops it. */

import { h } from "./dom.js";

/** A bar for `what`; `move(done, total, text)` moves it. */
export function progressBar(what) {
  const bar = h("progress", { "aria-label": what, max: 1 });
  const text = h("span", { class: "soft" }, `${what}…`);
  const element = h("div", { class: "progress" }, bar, text);
  const move = (done, total, words) => {
    if (total) {
      bar.max = total;
      bar.value = done;
    }
    text.textContent = words ?? `${done} of ${total}`;
  };
  return { element, move };
}

/** A button that starts work, and stops it while it goes on; the view's end stops it, too. */
export function workButton(name, signal, work) {
  let going = null;
  const press = async () => {
    if (going) return going.abort();
    going = new AbortController();
    button.textContent = "Stop";
    try {
      await work(going.signal);
    } finally {
      going = null;
      button.textContent = name;
    }
  };
  const button = h("button", { class: "main", onclick: press }, name);
  signal.addEventListener("abort", () => going?.abort());
  return { button, press };
}
