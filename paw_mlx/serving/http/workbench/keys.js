/* Keys: what they do in the view that is there, and the list of them. */

import { byId, h, put } from "./dom.js";

const KEEP = "paw-keys";
const bound = [];

/** Bind keys, each `[what it does, action]`, until the signal; `Mod+` is ⌘ or Ctrl. */
export function bind(keys, signal) {
  bound.push(keys);
  signal?.addEventListener("abort", () => bound.splice(bound.indexOf(keys), 1));
}

const isMac = /Mac|iPhone|iPad/.test(navigator.platform);

/** A key as people know it. */
export const shown = (key) =>
  key
    .replace("Mod+", isMac ? "⌘" : "Ctrl ")
    .replace("Enter", "↵")
    .replace("Escape", "Esc");

const areOn = () => {
  try {
    return localStorage.getItem(KEEP) !== "off";
  } catch {
    return true;
  }
};

function keep(on) {
  try {
    localStorage.setItem(KEEP, on ? "on" : "off");
  } catch {
    // Nothing may be kept here.
  }
}

const isWriting = (element) =>
  element.matches("textarea, select, [contenteditable]") ||
  (element.matches("input") && !["checkbox", "radio", "button"].includes(element.type));

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || byId("keys").open || event.altKey || event.isComposing) return;
  const withMod = event.metaKey || event.ctrlKey;
  const key = (withMod ? "Mod+" : "") + event.key;
  const isBare = !withMod && event.key !== "Escape";
  if (isBare && (isWriting(event.target) || !areOn())) return;
  for (const keys of [...bound].reverse()) {
    if (!(key in keys)) continue;
    event.preventDefault();
    keys[key][1]();
    return;
  }
});

/** Show the keys that work now. */
export function showKeys() {
  const dialog = byId("keys");
  const on = h("input", { type: "checkbox", id: "keys-on", onchange: () => keep(on.checked) });
  on.checked = areOn();
  const rows = [...bound].reverse().flatMap((keys) => Object.entries(keys));
  const seen = new Set();
  const told = rows.filter(([, [what]]) => !seen.has(what) && seen.add(what));
  put(
    dialog,
    h("h2", { id: "keys-title" }, "Keys"),
    h(
      "dl",
      { class: "keys" },
      told.map(([key, [what]]) =>
        h("div", {}, h("dt", {}, h("kbd", {}, shown(key))), h("dd", {}, what)),
      ),
    ),
    h("p", { class: "check" }, on, h("label", { for: "keys-on" }, "Keys without ⌘ or Ctrl work")),
    h(
      "form",
      { method: "dialog", class: "row" },
      h("button", { class: "main", autofocus: true }, "Close"),
    ),
  );
  dialog.showModal();
}
