/* The frame: functions at the side, the view that the address names, keys, theme. */

import { ask, pathOf, setToken, takeToken } from "./api.js";
import { byId, card, counted, field, h, problem, put } from "./dom.js";
import { bind, showKeys } from "./keys.js";
import { showAbout } from "./about.js";
import { showActivity, showTune } from "./activity.js";
import { showCases } from "./cases.js";
import { showCompare } from "./compare.js";
import { showCompile } from "./compile.js";
import { showTest } from "./test.js";
import { showTry } from "./try.js";

const TABS = {
  try: ["Try", showTry],
  cases: ["Cases", showCases],
  test: ["Test", showTest],
  compare: ["Compare", showCompare],
  tune: ["Tune", showTune],
  about: ["About", showAbout],
};
const KINDS = { text: "text", schema: "JSON", regex: "regex" };

let functions = [];
let leaving = new AbortController();

const link = (ref, tab = "try") => `#/f/${encodeURIComponent(ref)}/${tab}`;
const nameOf = (ref) => ref.split("@")[0];
const kindOf = (output) =>
  output.type === "labels" ? counted(output.labels.length, "label") : KINDS[output.type];

/** What the address names: a view, and of a function its reference and its tab. */
function route() {
  const [, view = "", ref = "", tab = "try"] = location.hash.split("/");
  return { view, ref: decodeURIComponent(ref), tab: tab in TABS ? tab : "try" };
}

async function load() {
  functions = (await ask("GET", "/functions")).functions;
  list();
}

/** What is known of a function, or of one of its versions. */
async function find(ref) {
  const one = functions.find((found) => found.name === nameOf(ref));
  if (!one || !ref.includes("@")) return one;
  return ask("GET", pathOf("functions", ref)).catch(() => null);
}

function list() {
  const { view, ref } = route();
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = functions.filter((one) => {
    const text = `${one.name} ${one.spec ?? ""}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
  put(
    byId("list"),
    ...found.map((one) =>
      h(
        "li",
        {},
        h(
          "a",
          {
            href: link(one.name, view === "f" ? route().tab : "try"),
            "aria-current": view === "f" && nameOf(ref) === one.name && "page",
          },
          h("span", { class: "name" }, one.name),
          h(
            "span",
            { class: "soft" },
            [kindOf(one.output), one.num_cases && counted(one.num_cases, "case")]
              .filter(Boolean)
              .join(" · "),
          ),
        ),
      ),
    ),
  );
  byId("none").hidden = found.length > 0;
  byId("none").textContent = functions.length ? "No function has these words." : "None yet.";
}

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { view, ref, tab } = route();
  const main = byId("main");
  const page = {
    root: h("div", { class: "view" }),
    signal: leaving.signal,
    ref,
    functions,
    link,
    keys: (keys) => bind(keys, leaving.signal),
    reload: load,
    again: async () => (await load(), show()),
  };
  closeSide();
  list();
  for (const [id, name] of [
    ["to-new", "new"],
    ["to-activity", "activity"],
  ]) {
    byId(id).toggleAttribute("aria-current", view === name);
  }
  const one = view === "f" && (await find(ref));
  if (page.signal.aborted) return;
  if (one) {
    page.fn = one;
    put(main, head(page, tab), page.root);
    TABS[tab][1](page);
    document.title = `${ref}: ${TABS[tab][0]} · paw-mlx`;
  } else {
    const [title, make] = {
      new: ["New function", showCompile],
      activity: ["Activity", showActivity],
      f: ["Not found", showMissing],
    }[view] ?? ["Functions", showWelcome];
    put(main, h("h1", { tabindex: "-1" }, title), page.root);
    make(page);
    document.title = `${title} · paw-mlx`;
  }
}

/** A function's head: its name, its version, what it does, and the tabs. */
function head(page, tab) {
  const { fn, ref } = page;
  const versions = h(
    "select",
    { "aria-label": "Version", onchange: () => (location.hash = link(versions.value, tab)) },
    fn.versions.map(({ version, current }) => {
      const value = current ? fn.name : `${fn.name}@v${version}`;
      const name = `v${version}${current && fn.versions.length > 1 ? " (current)" : ""}`;
      return h(
        "option",
        { value, selected: value === ref || ref === `${fn.name}@v${version}` },
        name,
      );
    }),
  );
  return h(
    "header",
    { class: "head" },
    h("div", { class: "title" }, h("h1", { tabindex: "-1" }, fn.name), versions),
    fn.spec && h("p", { class: "spec", title: fn.spec }, fn.spec),
    fn.error && problem({ message: fn.error }),
    h(
      "nav",
      { class: "tabs", "aria-label": `Work on ${fn.name}` },
      Object.entries(TABS).map(([key, [name]]) =>
        h("a", { href: link(ref, key), "aria-current": key === tab && "page" }, name),
      ),
    ),
  );
}

function showMissing(page) {
  page.root.append(card("", h("p", {}, `No function is called ${page.ref}.`)));
}

/** All functions at one look. */
function showWelcome(page) {
  if (!functions.length) {
    const told = [
      h("p", {}, "No function is stored on this machine yet."),
      h("p", {}, h("a", { href: "#/new" }, "Make one of a sentence"), ", or store a file:"),
      h("pre", {}, "paw-mlx pull FILE.paw --as NAME"),
    ];
    page.root.append(card("", told));
    return;
  }
  const columns = ["Function", "What it does", "Output", "Cases", "Version"];
  const rows = functions.map((one) =>
    h(
      "tr",
      {},
      h("th", { scope: "row" }, h("a", { href: link(one.name) }, one.name)),
      h("td", {}, h("p", { class: "spec" }, one.spec)),
      h("td", {}, kindOf(one.output)),
      h("td", {}, one.num_cases),
      h("td", {}, `v${one.current}${one.versions.length > 1 ? ` of ${one.versions.length}` : ""}`),
    ),
  );
  const named = columns.map((name) => h("th", { scope: "col" }, name));
  const table = h(
    "table",
    { class: "all" },
    h("thead", {}, h("tr", {}, named)),
    h("tbody", {}, rows),
  );
  page.root.append(
    card("", h("div", { class: "wide" }, table)),
    h("p", { class: "soft" }, "Press ", h("kbd", {}, "?"), " for the keys."),
  );
}

/** Ask for the server's token, where it wants one. */
function showLogin(error) {
  const token = h("input", { type: "password", autocomplete: "off", required: true });
  const form = h(
    "form",
    {
      onsubmit: (event) => {
        event.preventDefault();
        setToken(token.value);
        begun = begin();
      },
    },
    problem(error),
    h("p", {}, "`paw-mlx serve` printed it when it began."),
    field("Token", token),
    h("div", { class: "row" }, h("button", { class: "main" }, "Go on")),
  );
  put(byId("main"), h("h1", { tabindex: "-1" }, "Who is there?"), card("", form));
  token.focus();
}

// --- the frame's own controls ----------------------------------------------------------------

const narrow = matchMedia("(max-width: 760px)");

function closeSide() {
  byId("side").classList.remove("open");
  byId("menu").setAttribute("aria-expanded", "false");
}

function openSide() {
  byId("side").classList.add("open");
  byId("menu").setAttribute("aria-expanded", "true");
  byId("search").focus();
}

function nextTheme() {
  const { names } = window.theme;
  window.theme.set(names[(names.indexOf(window.theme.get()) + 1) % names.length]);
  tellTheme();
}

function tellTheme() {
  byId("theme").textContent = { auto: "Auto", light: "Light", dark: "Dark" }[window.theme.get()];
  byId("theme").setAttribute("aria-label", `${byId("theme").textContent}: colors. Change`);
}

function goTo(offset) {
  const links = [...byId("list").querySelectorAll("a")];
  const here = links.findIndex((one) => one.hasAttribute("aria-current"));
  const at = here < 0 ? 0 : Math.min(Math.max(here + offset, 0), links.length - 1);
  if (links[at]) location.hash = links[at].getAttribute("href");
}

function goToTab(offset) {
  const { view, ref, tab } = route();
  const names = Object.keys(TABS);
  const to = names[(names.indexOf(tab) + offset + names.length) % names.length];
  if (view === "f") location.hash = link(ref, to);
}

bind({
  "?": ["Show these keys", showKeys],
  "/": ["Search functions", openSide],
  j: ["Next function", () => goTo(1)],
  k: ["Previous function", () => goTo(-1)],
  "]": ["Next tab", () => goToTab(1)],
  "[": ["Previous tab", () => goToTab(-1)],
  n: ["New function", () => (location.hash = "#/new")],
  a: ["Activity", () => (location.hash = "#/activity")],
  d: ["Light, dark, or as the system", nextTheme],
});

byId("search").addEventListener("input", list);
byId("search").addEventListener("keydown", async (event) => {
  if (event.key !== "Enter") return;
  await begun; // who types faster than the list comes
  byId("list").querySelector("a")?.click();
});
byId("theme").addEventListener("click", nextTheme);
byId("help").addEventListener("click", showKeys);
byId("menu").addEventListener("click", () =>
  byId("side").classList.contains("open") ? closeSide() : openSide(),
);
byId("skip").addEventListener("click", (event) => {
  event.preventDefault();
  byId("main").focus();
});
byId("side").addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  closeSide();
  (narrow.matches ? byId("menu") : byId("main")).focus();
});
addEventListener("hashchange", async () => {
  if (!(await begun)) return;
  await show();
  byId("main").querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
});
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) load().catch(() => {});
});

/** Load what there is, and show what the address names; false where that cannot be. */
async function begin() {
  try {
    await load();
    await show();
    return true;
  } catch (error) {
    if (error.status === 401) showLogin(error);
    else put(byId("main"), problem(error));
    return false;
  }
}

takeToken();
tellTheme();
let begun = begin();
