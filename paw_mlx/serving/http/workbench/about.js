/* A function's spec, its type, its versions. */

import { card, counted, facts, h, megabytes, when } from "./dom.js";

export function showAbout(page) {
  const { fn, root } = page;
  root.append(
    card(
      "Spec",
      h("p", { class: "whole", dir: "auto" }, fn.spec || "It was not kept with the program."),
    ),
    card("Output", ...outputTold(fn.output)),
    card(
      "Program",
      facts({ interpreter: fn.interpreter, cases: fn.num_cases }),
      h("p", { class: "soft id" }, "id ", h("code", {}, fn.program_id)),
    ),
    card(counted(fn.versions.length, "version"), h("div", { class: "wide" }, versions(page))),
  );
}

function outputTold(output) {
  if (output.type === "labels") {
    const { labels, ...rest } = output;
    delete rest.type;
    const told = Object.fromEntries(
      Object.entries(rest).map(([name, value]) => [
        name,
        Array.isArray(value) ? value.map((each) => each.toFixed(2)).join(", ") : value,
      ]),
    );
    return [
      h(
        "ul",
        { class: "chips" },
        labels.map((label) => h("li", { class: "chip" }, label)),
      ),
      Object.keys(told).length > 0 && facts(told),
    ];
  }
  if (output.type === "schema") return [h("pre", {}, JSON.stringify(output.schema, null, 2))];
  if (output.type === "regex") return [h("p", {}, "Text that matches"), h("pre", {}, output.regex)];
  return [h("p", {}, "Any text.")];
}

function versions({ fn, link }) {
  const current = fn.versions.find((one) => one.current);
  return h(
    "table",
    {},
    h(
      "thead",
      {},
      h(
        "tr",
        {},
        ["Version", "Stored", "Size"].map((name) => h("th", { scope: "col" }, name)),
        h("td"),
      ),
    ),
    h(
      "tbody",
      {},
      fn.versions.map((one) =>
        h(
          "tr",
          {},
          h(
            "th",
            { scope: "row" },
            h("a", { href: link(`${fn.name}@v${one.version}`, "try") }, `v${one.version}`),
            one.current && h("span", { class: "chip" }, "current"),
          ),
          h("td", {}, when(one.modified)),
          h("td", { class: "number" }, megabytes(one.bytes)),
          h(
            "td",
            {},
            !one.current &&
              current &&
              h(
                "a",
                { href: link(`${fn.name}@v${one.version}`, "compare") },
                "Compare with the current",
              ),
          ),
        ),
      ),
    ),
  );
}
