/* Two versions, or two functions, side by side: on one input, and on the cases. */

import { ask, listen, pathOf } from "./api.js";
import { attempt, card, counted, facts, field, h, percent, put, tell } from "./dom.js";
import { draft } from "./draft.js";
import { shown } from "./keys.js";
import { progressBar, workButton } from "./progress.js";
import { resultView } from "./result.js";

const MOST_SPLIT = 50;

export function showCompare(page) {
  const { fn, ref, root, signal } = page;
  const other = chooser(page);
  const input = h("textarea", {
    rows: 4, dir: "auto", spellcheck: "false", value: draft(fn.name),
    oninput: () => draft(fn.name, input.value),
  }); // prettier-ignore
  const sides = h("div", { class: "pair" });
  const inputBox = h("div");
  const casesBox = h("div");
  const verdict = h("div", { id: "verdict", tabindex: "-1" });
  const run = workButton("Run both", signal, runBoth);
  const judge = workButton("Compare on the cases", signal, compareCases);

  if (!other.options.length) {
    root.append(
      card(
        "",
        h("p", {}, "There is nothing to compare with: one function, of one version, is stored."),
      ),
    );
    return;
  }
  root.append(
    h(
      "section",
      { class: "card", "aria-label": "What is compared" },
      h(
        "div",
        { class: "fields two" },
        h(
          "div",
          { class: "field" },
          h("span", { class: "label" }, "A"),
          h("p", { class: "fixed" }, ref),
        ),
        field("B", other),
      ),
    ),
    card(
      "On one input",
      field("Input", input),
      h(
        "div",
        { class: "row" },
        run.button,
        h("kbd", { "aria-hidden": "true" }, shown("Mod+Enter")),
      ),
      inputBox,
      sides,
    ),
    card(
      "On the cases",
      h(
        "p",
        { class: "soft" },
        fn.num_cases
          ? `Both answer the ${counted(fn.num_cases, "case")} kept with ${fn.name}.`
          : `No cases are kept with ${fn.name} yet.`,
      ),
      h("div", { class: "row" }, judge.button),
      casesBox,
      verdict,
    ),
  );
  page.keys({
    "Mod+Enter": ["Run both", run.press],
    r: ["Compare on the cases", judge.press],
    i: ["Write an input", () => input.focus()],
    Escape: ["Out of a field", () => document.activeElement?.blur()],
  });

  async function runBoth(stopped) {
    put(sides);
    await attempt(inputBox, async () => {
      const refs = [ref, other.value];
      const body = { input: input.value };
      const results = await Promise.all(
        refs.map((one) => ask("POST", pathOf("run", one), { body, signal: stopped })),
      );
      put(
        sides,
        results.map((result, place) =>
          h(
            "section",
            { class: "side", "aria-label": `${"AB"[place]}: ${refs[place]}` },
            h("h3", {}, `${"AB"[place]}  ${refs[place]}`),
            resultView(result),
          ),
        ),
      );
      const same = results[0].text === results[1].text;
      tell(same ? "Both say the same" : "They differ");
    });
  }

  async function compareCases(stopped) {
    put(verdict);
    const b = other.value;
    await attempt(casesBox, async () => {
      const { element, move } = progressBar("Comparing");
      casesBox.append(element);
      const body = { with: b };
      for await (const { event, data } of listen("POST", pathOf("compare", ref), {
        body,
        signal: stopped,
      })) {
        if (event === "progress") move(data.done, data.total);
        if (event !== "comparison") continue;
        put(casesBox);
        put(verdict, comparisonView(ref, b, data));
        verdict.focus({ preventScroll: true });
        tell(sentence(data));
      }
    });
    if (stopped.aborted) put(casesBox);
  }
}

/** What B may be: the other versions of A's name, then the other functions. */
function chooser({ fn, ref, functions }) {
  const own = fn.versions
    .map(({ version, current }) => (current ? fn.name : `${fn.name}@v${version}`))
    .filter((one) => one !== ref);
  const others = functions.map((one) => one.name).filter((name) => name !== fn.name);
  const options = (refs) => refs.map((one) => h("option", { value: one }, one));
  return h(
    "select",
    {},
    own.length > 0 && h("optgroup", { label: `Versions of ${fn.name}` }, options(own)),
    others.length > 0 && h("optgroup", { label: "Other functions" }, options(others)),
  );
}

const points = (share) => `${share > 0 ? "+" : ""}${(100 * share).toFixed(1)}`;

function sentence(data) {
  if (data.verdict !== "cannot tell") return `B is ${data.verdict} than A`;
  const told = `Cannot tell with ${counted(data.cases, "case")}`;
  if (!data.needed) return `${told}: neither leads`;
  const leader = data.only_b > data.only_a ? "B" : "A";
  return `${told}: if ${leader} leads on as it does here, it takes about ${data.needed.toLocaleString("en")}`;
}

function comparisonView(a, b, data) {
  const kind = { better: "good", worse: "bad" }[data.verdict] ?? "";
  const side = (name, ref, one) => [
    h("th", { scope: "row" }, `${name}  ${ref}`),
    h("td", { class: "number" }, percent(one.accuracy)),
    h("td", { class: "number" }, one.interval.map(percent).join(" to ")),
  ];
  return [
    h("p", { class: `verdict ${kind}` }, `${sentence(data)}.`),
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
            h("td"),
            ["Accuracy", "95 % interval"].map((name) =>
              h("th", { scope: "col", class: "number" }, name),
            ),
          ),
        ),
        h("tbody", {}, h("tr", {}, side("A", a, data.a)), h("tr", {}, side("B", b, data.b))),
      ),
    ),
    facts({
      "both right": data.both_right,
      "A alone": data.only_a,
      "B alone": data.only_b,
      neither: data.both_wrong,
      "B less A, points": `${points(data.difference)} (${data.interval.map(points).join(" to ")})`,
      "p (McNemar)": data.p_value < 0.001 ? data.p_value.toExponential(1) : data.p_value.toFixed(3),
    }),
    data.split.length > 0 && h("h3", {}, "Right by one alone"),
    data.split.length > 0 &&
      h(
        "div",
        { class: "wide" },
        h(
          "table",
          { class: "cases" },
          h(
            "thead",
            {},
            h(
              "tr",
              {},
              ["Input", "Right", "A", "B"].map((name) => h("th", { scope: "col" }, name)),
            ),
          ),
          h(
            "tbody",
            {},
            data.split.slice(0, MOST_SPLIT).map((one) =>
              h(
                "tr",
                {},
                h("td", { class: "long", dir: "auto" }, one.input),
                h("td", { dir: "auto" }, one.expected),
                [one.a, one.b].map((each) =>
                  h(
                    "td",
                    { class: each.correct ? "good" : "bad", dir: "auto" },
                    each.correct ? "✓ " : "✗ ",
                    each.error ?? each.output,
                  ),
                ),
              ),
            ),
          ),
        ),
      ),
  ];
}
