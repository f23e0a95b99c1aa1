/* Try an input, see what comes, and correct it into a case. */

import { ask, listen, pathOf } from "./api.js";
import { attempt, field, h, put, tell } from "./dom.js";
import { keepCase } from "./cases.js";
import { draft } from "./draft.js";
import { shown } from "./keys.js";
import { resultView, shares } from "./result.js";

export function showTry(page) {
  const { fn, ref, root, signal } = page;
  const isLabels = fn.output.type === "labels";
  const input = h("textarea", {
    id: "input", rows: 9, spellcheck: "false", dir: "auto", value: draft(fn.name),
    oninput: () => draft(fn.name, input.value),
  }); // prettier-ignore
  const { fields, options } = optionFields(isLabels);
  const run = h("button", { class: "main", onclick: start }, "Run");
  const out = h("section", {
    class: "card result", id: "result", tabindex: "-1", "aria-label": "Result",
  }); // prettier-ignore
  const box = h("div");
  let call = null;
  let last = null; // {text, result}

  root.append(
    h(
      "div",
      { class: "pair" },
      h(
        "div",
        { class: "card" },
        field("Input", input),
        fields,
        h("div", { class: "row" }, run, h("kbd", { "aria-hidden": "true" }, shown("Mod+Enter"))),
      ),
      out,
    ),
  );
  out.append(h("p", { class: "soft empty" }, "The output comes here."));
  signal.addEventListener("abort", () => call?.abort());

  async function start() {
    if (call) return call.abort();
    call = new AbortController();
    const text = input.value;
    run.textContent = "Stop";
    out.setAttribute("aria-busy", "true");
    put(out, box);
    const done = await attempt(box, async () => {
      const body = { input: text, options: options() };
      const path = pathOf("run", ref);
      const told = { signal: call.signal };
      last = {
        text,
        result: isLabels
          ? await ask("POST", path, { body, ...told })
          : await stream(listen("POST", path, { body: { ...body, stream: true }, ...told })),
      };
    });
    call = null;
    run.textContent = "Run";
    out.removeAttribute("aria-busy");
    if (!done) {
      if (!box.children.length) put(out, h("p", { class: "soft empty" }, "Stopped."));
      return;
    }
    put(out, h("h2", { class: "hidden" }, "Result"), box, judged());
    tell(`Output: ${last.result.text || last.result.label || "nothing"}`);
    if (document.activeElement === input && input.value === text) out.focus();
  }

  /** Show pieces as they come; return the result at their end. */
  async function stream(events) {
    const live = h("pre", { class: "output", dir: "auto" });
    out.prepend(live);
    let result;
    for await (const { event, data } of events) {
      if (event === "piece") live.append(data.text);
      if (event === "result") result = data;
    }
    if (!result) throw new Error("the server ended before the output did");
    return result;
  }

  /** The result, and what makes a case of it. */
  function judged() {
    const { result } = last;
    const choose = isLabels ? keep : null;
    const right = isLabels ? null : h("textarea", { rows: 3, dir: "auto", spellcheck: "false" });
    if (right) {
      right.id = "right";
      right.value = result.text.trim();
    }
    const yes = h(
      "button",
      { onclick: () => keep(right ? right.value : result.label) },
      isLabels ? "It is right: keep it" : "Keep as a case",
      h("kbd", { "aria-hidden": "true" }, "y"),
    );
    return [
      resultView(result, fn.output.labels, choose),
      h(
        "div",
        { class: "correct" },
        right
          ? field("Right output", right, "Correct it where it is wrong, and keep it.")
          : h(
              "p",
              { class: "soft" },
              "Wrong? Choose the right label, or press its number: it becomes a case.",
            ),
        h("div", { class: "row" }, yes),
      ),
    ];
  }

  async function keep(output) {
    const { text } = last;
    const kept = await attempt(box, () => keepCase(page, text, output));
    if (!kept) return;
    input.focus();
    input.select();
  }

  const onResult = (action) => () => last && !call && action();
  const digits = isLabels
    ? Object.fromEntries(
        [1, 2, 3, 4, 5, 6, 7, 8, 9].slice(0, fn.output.labels.length).map((number) => [
          String(number),
          [
            "Keep the input with that label (1 to 9)",
            onResult(() => {
              const found = shares(last.result, fn.output.labels)[number - 1];
              if (found) keep(found[0]);
            }),
          ],
        ]),
      )
    : {
        e: ["Correct the output", onResult(() => document.getElementById("right").focus())],
      };
  page.keys({
    "Mod+Enter": ["Run", start],
    i: ["Write an input", () => (input.focus(), input.select())],
    y: [
      "It is right: keep it as a case",
      onResult(() => keep(document.getElementById("right")?.value ?? last.result.label)),
    ],
    ...digits,
    Escape: ["Stop; out of a field", () => (call ? call.abort() : document.activeElement?.blur())],
  });
}

/** The fields of a call's options, and what gives those that were filled in. */
export function optionFields(isLabels) {
  const number = (step, min, max, placeholder) =>
    h("input", { type: "number", step, min, max, placeholder });
  const kept = {
    error: "are refused",
    head: "keep their head",
    tail: "keep their tail",
    middle: "lose their middle",
  };
  const overflow = h(
    "select",
    {},
    Object.entries(kept).map(([value, told]) => h("option", { value }, told)),
  );
  const named = {
    temperature: ["Temperature", number("any", 0, undefined, "0")],
    seed: ["Seed", number(1, 0, undefined, "any")],
    ...(isLabels
      ? { threshold: ["Threshold", number("any", 0, 1, "its own")] }
      : { max_tokens: ["Tokens at most", number(1, 1, undefined, "512")] }),
    overflow: ["Inputs that are too long", overflow],
  };
  const fields = h(
    "details",
    {},
    h("summary", {}, "Options"),
    h(
      "div",
      { class: "fields" },
      Object.values(named).map(([label, control]) => field(label, control)),
    ),
  );
  const options = () => {
    const filled = Object.entries(named).filter(([, [, control]]) => control.value !== "");
    return Object.fromEntries(
      filled.map(([name, [, control]]) => [
        name,
        control === overflow ? control.value : Number(control.value),
      ]),
    );
  };
  return { fields, options };
}
