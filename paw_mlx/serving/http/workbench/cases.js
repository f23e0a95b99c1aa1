/* The cases kept with a function: list, add, remove. */

import { ask, pathOf } from "./api.js";
import { attempt, card, counted, field, h, put, say } from "./dom.js";
import { tryButton } from "./draft.js";

/** Keep a case, say so, and offer to take it back. */
export async function keepCase(page, input, output) {
  const path = pathOf("cases", page.fn.name);
  const { number, status } = await ask("POST", path, { body: { input, output } });
  const undo = async () => {
    await ask("DELETE", `${path}?number=${number}`);
    await page.reload();
    say(`Case ${number} is removed again`);
  };
  const told = {
    new: `Kept as case ${number} of ${page.fn.name}: ${output}`,
    same: `It is case ${number} of ${page.fn.name} already`,
    replaced: `Case ${number} of ${page.fn.name} was another, and is now: ${output}`,
  };
  say(told[status], status === "new" && undo);
  await page.reload();
}

/** A control for an output of a function: one of its labels, or text. */
export function outputField(output, attributes = {}) {
  if (output.type !== "labels") {
    return h("textarea", { rows: 2, dir: "auto", spellcheck: "false", ...attributes });
  }
  const options = output.labels.map((label) => h("option", { value: label }, label));
  return h("select", attributes, h("option", { value: "" }, "choose"), options);
}

export function showCases(page) {
  const { fn, root, signal } = page;
  const path = pathOf("cases", fn.name);
  const box = h("div");
  const input = h("textarea", { rows: 3, dir: "auto", spellcheck: "false", required: true });
  const output = outputField(fn.output, { required: true });
  const search = h("input", {
    type: "search",
    placeholder: "Search cases",
    "aria-label": "Search cases",
    oninput: list,
  });
  const rows = h("tbody");
  const total = h("h2", {}, "Cases");
  const table = h(
    "table",
    { class: "cases" },
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["#", "Input", "Right output", ""].map((name) =>
          name ? h("th", { scope: "col" }, name) : h("td", {}),
        ),
      ),
    ),
    rows,
  );
  const none = h("p", { class: "soft" }, "None yet: try an input and keep it, or write one here.");
  const kept = h(
    "section",
    { class: "card" },
    h("div", { class: "row spread" }, total, search),
    h("div", { class: "wide" }, table),
    none,
  );
  let cases = [];

  root.append(
    card(
      "Add a case",
      h(
        "form",
        { onsubmit: (event) => (event.preventDefault(), add()) },
        h("div", { class: "fields two" }, field("Input", input), field("Right output", output)),
        h("div", { class: "row" }, h("button", { class: "main" }, "Add")),
      ),
      box,
    ),
    kept,
  );

  async function load() {
    cases = (await ask("GET", path, { signal })).cases;
    list();
  }

  function list() {
    const words = search.value.toLowerCase();
    const found = cases.filter((one) =>
      `${one.input}\n${one.output}`.toLowerCase().includes(words),
    );
    total.textContent = counted(cases.length, "case");
    table.hidden = !cases.length;
    search.hidden = cases.length < 8;
    none.hidden = cases.length > 0;
    put(
      rows,
      ...found.map((one) =>
        h(
          "tr",
          {},
          h("td", { class: "number" }, one.number),
          h("td", { class: "long", dir: "auto" }, one.input),
          h("td", { dir: "auto" }, one.output),
          h(
            "td",
            { class: "acts" },
            h("button", tryButton(page, one.input, `Try case ${one.number}`), "Try"),
            h(
              "button",
              {
                class: "plain",
                "aria-label": `Remove case ${one.number}`,
                onclick: () => remove(one),
              },
              "Remove",
            ),
          ),
        ),
      ),
    );
  }

  async function add() {
    const done = await attempt(box, () => keepCase(page, input.value, output.value));
    if (!done) return;
    input.value = "";
    input.focus();
    await load();
  }

  async function remove(one) {
    await attempt(box, async () => {
      await ask("DELETE", `${path}?number=${one.number}`);
      await load();
      page.reload();
      total.tabIndex = -1;
      total.focus();
      say(`Removed case ${one.number}`, async () => {
        await ask("POST", path, { body: { input: one.input, output: one.output } });
        await load();
        page.reload();
      });
    });
  }

  page.keys({
    i: ["Write a case", () => input.focus()],
    Escape: ["Out of a field", () => document.activeElement?.blur()],
  });
  attempt(box, load);
}
