/* Test a function by its cases: how often it is right, what it takes for what, how sure it is. */

import { listen, pathOf } from "./api.js";
import { interval, riskCoverage } from "./charts.js";
import { attempt, card, counted, duration, facts, field, h, percent, put, tell } from "./dom.js";
import { tryButton } from "./draft.js";
import { progressBar, workButton } from "./progress.js";

const MOST_LABELS = 25; // of a matrix
const MOST_FAILURES = 100;
const reports = new Map(); // of each reference, the last one

export function showTest(page) {
  const { fn, ref, root, signal } = page;
  const gate = h("input", {
    placeholder: "accuracy >= 95%",
    spellcheck: "false",
    autocomplete: "off",
  });
  const box = h("div");
  const report = h("div", { id: "report", tabindex: "-1" });
  const { button, press } = workButton("Test", signal, work);

  root.append(
    h(
      "section",
      { class: "card" },
      h("div", { class: "row end" }, field("Gate", gate), button),
      h(
        "p",
        { class: "soft" },
        fn.num_cases
          ? `By the ${counted(fn.num_cases, "case")} kept with ${fn.name}. A gate says what has to hold; it may be empty.`
          : "No cases are kept yet: keep some first, under Try or Cases.",
      ),
      box,
    ),
    report,
  );
  if (reports.has(ref)) put(report, reportView(page, reports.get(ref)));
  page.keys({ r: ["Test", press] });

  async function work(stopped) {
    put(report);
    await attempt(box, async () => {
      const { element, move } = progressBar("Testing");
      box.append(element);
      const body = gate.value.trim() ? { gate: gate.value } : {};
      for await (const { event, data } of listen("POST", pathOf("test", ref), {
        body,
        signal: stopped,
      })) {
        if (event === "progress") move(data.done, data.total);
        if (event === "report") done(data);
      }
    });
    if (stopped.aborted) put(box);
  }

  function done(data) {
    put(box);
    reports.set(ref, data);
    put(report, reportView(page, data));
    report.focus({ preventScroll: true });
    tell(`${percent(data.accuracy)} of ${counted(data.cases, "case")} are right`);
  }
}

function reportView(page, data) {
  const { decisions } = data;
  return [
    card(
      "",
      h(
        "div",
        { class: "pair middle" },
        h(
          "div",
          {},
          h("p", { class: "big" }, percent(data.accuracy)),
          h(
            "p",
            { class: "soft" },
            `accuracy; 95 % interval ${data.interval.map(percent).join(" to ")}`,
          ),
        ),
        interval(data.accuracy, data.interval),
      ),
      facts({
        cases: data.cases,
        right: data.num_correct,
        wrong: data.failures.length,
        "not run": data.num_failed || undefined,
        "cut before their end": data.num_unended || undefined,
        "macro F1": data.macro_f1 === undefined ? undefined : percent(data.macro_f1),
        time: duration(data.seconds),
      }),
    ),
    data.gate && gateView(data.gate),
    h(
      "div",
      { class: "pair" },
      data.labels && h("div", { class: "works" }, matrix(data), labelScores(data.labels)),
      decisions && riskView(data.curve, decisions),
    ),
    failures(page, data.failures),
  ];
}

function gateView(gate) {
  return card(
    "Gate",
    h("p", { class: gate.passed ? "good" : "bad" }, gate.passed ? "✓ It passes." : "✗ It misses:"),
    gate.missed?.length > 0 &&
      h(
        "ul",
        {},
        gate.missed.map((one) => h("li", {}, one)),
      ),
  );
}

function riskView(curve, decisions) {
  const told = `Now ${percent(decisions.coverage)} are decided`;
  const wrong = decisions.error === null ? "" : `, and ${percent(decisions.error)} of them wrong`;
  return card(
    "Error against coverage",
    riskCoverage(curve, decisions),
    h("p", { class: "soft" }, `${told}${wrong}.`),
  );
}

/** What was taken for what: a row is what is right, its color the share of that row. */
function matrix(data) {
  if (Object.keys(data.labels).length > MOST_LABELS) return null;
  const right = Object.keys(data.labels);
  const said = [...right];
  if (data.confusion.some((cell) => cell.output === null)) said.push(null);
  const number = new Map(
    data.confusion.map((cell) => [`${cell.expected}\n${cell.output}`, cell.cases]),
  );
  const head = (label) =>
    h("th", { scope: "col", class: "name", title: label }, label ?? "(other)");
  return card(
    "What was taken for what",
    h(
      "div",
      { class: "wide" },
      h(
        "table",
        { class: "matrix" },
        h("thead", {}, h("tr", {}, h("th", { scope: "col" }, "right \\ said"), said.map(head))),
        h(
          "tbody",
          {},
          right.map((label) =>
            h(
              "tr",
              {},
              h("th", { scope: "row", class: "name", title: label }, label),
              said.map((output) => {
                const found = number.get(`${label}\n${output}`) ?? 0;
                const kind = !found ? "none" : output === label ? "right" : "wrong";
                const share = 0.08 + (0.42 * found) / data.labels[label].cases;
                return h("td", { class: kind, "--share": share.toFixed(2) }, found);
              }),
            ),
          ),
        ),
      ),
    ),
  );
}

function labelScores(labels) {
  const names = Object.entries(labels);
  const shown =
    names.length > MOST_LABELS
      ? names.sort((a, b) => (a[1].f1 ?? 0) - (b[1].f1 ?? 0)).slice(0, MOST_LABELS)
      : names;
  const share = (value) => h("td", { class: "number" }, value === null ? "–" : percent(value));
  return card(
    "How each label fares",
    h(
      "div",
      { class: "wide" },
      h(
        "table",
        {},
        h(
          "thead",
          {},
          h(
            "tr",
            {},
            ["Label", "Cases", "Precision", "Recall", "F1"].map((name, place) =>
              h("th", { scope: "col", class: place && "number" }, name),
            ),
          ),
        ),
        h(
          "tbody",
          {},
          shown.map(([label, one]) =>
            h(
              "tr",
              {},
              h("th", { scope: "row" }, label),
              h("td", { class: "number" }, one.cases),
              share(one.precision),
              share(one.recall),
              share(one.f1),
            ),
          ),
        ),
      ),
    ),
    shown.length < names.length &&
      h("p", { class: "soft" }, `The ${shown.length} of ${names.length} with the least F1.`),
  );
}

function failures(page, found) {
  if (!found.length) return card("Wrong cases", h("p", { class: "good" }, "There are none."));
  const shown = found.slice(0, MOST_FAILURES);
  return card(
    counted(found.length, "wrong case"),
    h(
      "ul",
      { class: "failures" },
      shown.map((one, place) =>
        h(
          "li",
          {},
          h("p", { class: "input", dir: "auto" }, one.input),
          h(
            "div",
            { class: "row spread" },
            h(
              "p",
              {},
              h("span", { class: "soft" }, "right "),
              one.expected,
              h("span", { class: "soft" }, "  said "),
              one.error
                ? h("span", { class: "bad" }, one.error)
                : h("span", { class: "bad" }, one.output || "nothing"),
              one.decision &&
                h("span", { class: "soft" }, `  ${percent(one.decision.probability)} sure`),
            ),
            h("button", tryButton(page, one.input, `Try wrong case ${place + 1}`), "Try"),
          ),
        ),
      ),
    ),
    shown.length < found.length &&
      h("p", { class: "soft" }, `${shown.length} of ${found.length} stand here.`),
  );
}
