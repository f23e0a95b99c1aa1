/* What a call gave: its output, how likely each label is, and what it took. */

import { duration, facts, h, percent } from "./dom.js";

const MOST = 9; // of labels: as many as there are digits

/** The labels that are shown, with their probabilities: all in their order, or the most likely.
    Their order is the program's: JavaScript puts keys that are numbers first. */
export function shares(result, labels = Object.keys(result.probabilities)) {
  const all = labels.map((label) => [label, result.probabilities[label]]);
  return all.length > MOST ? all.sort((a, b) => b[1] - a[1]).slice(0, MOST) : all;
}

/** A result, its labels in an order; `choose(label)` makes a button of every label. */
export function resultView(result, labels, choose) {
  if (!result.probabilities) return [outputView(result), told(result)];
  const said = result.abstained
    ? h(
        "p",
        { class: "said" },
        result.text || "nothing",
        h("span", { class: "chip" }, "below its threshold"),
      )
    : h("p", { class: "said" }, result.label);
  const rows = shares(result, labels).map(([label, share], place) => {
    const attributes = {
      class: label === result.label ? "share first" : "share",
      "--share": share,
    };
    const inside = [
      choose && h("kbd", { "aria-hidden": "true" }, place + 1),
      h("span", { class: "name" }, label),
      h("span", { class: "track", "aria-hidden": "true" }, h("span", { class: "fill" })),
      h("span", { class: "number" }, percent(share)),
    ];
    if (!choose) return h("li", {}, h("div", attributes, ...inside));
    const name = `${label} ${percent(share)}: keep as a case`;
    const button = { ...attributes, "aria-label": name, onclick: () => choose(label) };
    return h("li", {}, h("button", button, ...inside));
  });
  const rest = Object.keys(result.probabilities).length - rows.length;
  return [
    said,
    h("ol", { class: "shares", "aria-label": "Probabilities" }, rows),
    rest > 0 && h("p", { class: "soft" }, `and ${rest} more labels, each less likely`),
    told(result),
  ];
}

/** An output that is no label; JSON stands in lines. */
export function outputView(result) {
  const isData = result.value !== null && typeof result.value === "object";
  const text = isData ? JSON.stringify(result.value, null, 2) : result.text;
  return [
    h("pre", { class: "output", dir: "auto" }, text || "(nothing)"),
    result.finish_reason === "length" && h("p", { class: "bad" }, "It was cut before its end."),
  ];
}

const told = (result) =>
  facts({
    time: duration(result.seconds),
    "tokens in": `${result.prefix_tokens + result.input_tokens} (${result.prefix_tokens} cached)`,
    "tokens out": result.output_tokens,
    "tokens/s": result.tok_s ? Math.round(result.tok_s).toLocaleString("en") : undefined,
    "in scope": result.in_scope === undefined ? undefined : percent(result.in_scope),
    "tokens cut": result.cut_tokens || undefined,
  });
