/* Elements, built of text alone: what anybody wrote never becomes markup. */

const SVG = "http://www.w3.org/2000/svg";

/** Make an element. `onclick` and the like are listeners, `--name` is a property of its style. */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** Make an element of an SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  return put(element, children);
}

/** Put children into an element in place of what it holds; those that are nothing are left out. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child || child === 0));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** A labelled field: the label, its control, and what is to be known of it. */
export function field(label, control, note) {
  const id = (control.id ||= `field-${label.toLowerCase().replace(/\W+/g, "-")}`);
  const told = note && h("span", { class: "note", id: `${id}-note` }, note);
  if (told) control.setAttribute("aria-describedby", told.id);
  return h("div", { class: "field" }, h("label", { for: id }, label), control, told);
}

/** A card with a heading. */
export function card(title, ...children) {
  return h("section", { class: "card" }, title && h("h2", {}, title), ...children);
}

/** Figures, and what they are called; those without a value are left out. */
export function facts(named) {
  const there = Object.entries(named).filter(([, value]) => value !== undefined && value !== null);
  return h(
    "dl",
    { class: "facts" },
    there.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))),
  );
}

/** What went wrong, and the way out. */
export function problem(error) {
  return h(
    "div",
    { class: "problem", role: "alert" },
    h("p", {}, sentence(error.message || String(error))),
    error.hint && h("p", { class: "soft" }, error.hint),
  );
}

/** Do something; what goes wrong is shown in `box`. True if nothing did. */
export async function attempt(box, action) {
  put(box);
  try {
    await action();
    return true;
  } catch (error) {
    if (error.name !== "AbortError") put(box, problem(error));
    return false;
  }
}

/** Tell screen readers what others see. */
export function tell(text) {
  byId("told").textContent = text;
}

/** Say something for a moment; `undo` is offered with it. */
export function say(text, undo) {
  const toast = byId("toast");
  clearTimeout(say.timer);
  const button =
    undo && h("button", { class: "plain", onclick: () => (put(toast), undo()) }, "Undo");
  put(toast, h("span", {}, text), button);
  say.timer = setTimeout(() => put(toast), undo ? 8000 : 5000);
}

export const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;

export const counted = (number, noun) =>
  `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

export const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)}\u00a0MB`;

export const duration = (seconds) =>
  seconds < 1 ? `${Math.round(1000 * seconds)}\u00a0ms` : `${seconds.toFixed(1)}\u00a0s`;

/** A time in seconds since 1970 as people read it. */
export function when(seconds) {
  const date = new Date(1000 * seconds);
  const two = (number) => String(number).padStart(2, "0");
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}`;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
