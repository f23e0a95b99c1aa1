/* Compile a function from a spec, and watch it. */

import { ask, listen } from "./api.js";
import { attempt, card, field, h, problem, put, say } from "./dom.js";
import { shown } from "./keys.js";
import { progressBar } from "./progress.js";

const ENDS = ["ready", "failed", "cancelled"];

export function showCompile(page) {
  const { root, signal } = page;
  const spec = h("textarea", {
    rows: 6, required: true, dir: "auto",
    placeholder: "Decide whether an e-mail needs an answer at once or can wait.",
  }); // prettier-ignore
  const name = h("input", {
    placeholder: "mail",
    pattern: "[a-z0-9][a-z0-9._\\-]*(/[a-z0-9][a-z0-9._\\-]*)?",
    autocomplete: "off",
    spellcheck: "false",
  });
  const labels = h("input", {
    placeholder: "immediate, wait",
    autocomplete: "off",
    spellcheck: "false",
  });
  const compiler = h("input", {
    placeholder: "the installed one",
    autocomplete: "off",
    spellcheck: "false",
  });
  const button = h("button", { class: "main" }, "Compile");
  const box = h("div");
  const work = h("div", { class: "works" });

  root.append(
    card(
      "",
      h(
        "form",
        { onsubmit: (event) => (event.preventDefault(), start()) },
        field(
          "Spec",
          spec,
          "What the function shall do, in a few sentences; say what it shall return.",
        ),
        h(
          "div",
          { class: "fields" },
          field("Name", name, "By which it is called afterwards."),
          field("Labels", labels, "If it returns one of some labels; parted by commas."),
          field("Compiler", compiler),
        ),
        h("div", { class: "row" }, button, h("kbd", { "aria-hidden": "true" }, shown("Mod+Enter"))),
      ),
      box,
    ),
    work,
  );
  page.keys({
    "Mod+Enter": ["Compile", () => button.click()],
    i: ["Write a spec", () => spec.focus()],
    Escape: ["Out of a field", () => document.activeElement?.blur()],
  });

  async function start() {
    const listed = labels.value
      .split(",")
      .map((label) => label.trim())
      .filter(Boolean);
    const body = { spec: spec.value };
    if (name.value.trim()) body.name = name.value.trim();
    if (listed.length) body.labels = listed;
    if (compiler.value.trim()) body.compiler = compiler.value.trim();
    await attempt(box, async () => {
      const job = await ask("POST", "/compiles", { body });
      work.prepend(watchCompile(page, job, signal));
    });
  }
}

/** A compile job as it goes on: its bar, what it says, and the function at its end. */
export function watchCompile(page, job, signal) {
  const { element, move } = progressBar("Compiling");
  const cancel = h("button", { class: "plain", onclick: () => attempt(box, stop) }, "Cancel");
  const box = h("div");
  const state = h("div", {}, element, h("div", { class: "row" }, cancel), box);
  const view = h(
    "section",
    { class: "card work", "aria-label": `Compile job ${job.id}` },
    h("h2", {}, job.name || "Unnamed"),
    h("p", { class: "spec" }, job.spec),
    state,
  );
  const stop = () => ask("DELETE", `/compiles/${job.id}`);

  async function watch() {
    if (ENDS.includes(job.state)) return end(job.state, job);
    move(job.percent, 100, job.message);
    for await (const { event, data } of listen("GET", `/compiles/${job.id}/events`, { signal })) {
      if (event === "progress") move(data.percent, 100, `${data.percent} %  ${data.message}`);
      if (!ENDS.includes(event)) continue;
      await page.reload();
      end(event, data);
      say(
        event === "ready"
          ? `${data.reference} is ready`
          : `The compile ${event === "failed" ? "failed" : "is cancelled"}`,
      );
    }
  }

  function end(event, { reference, error }) {
    const told = {
      ready: () => {
        const link = h("a", { href: page.link(reference) }, reference);
        return h("p", { class: "good" }, "✓ It is ready: ", link);
      },
      failed: () => problem(error),
      cancelled: () => h("p", { class: "soft" }, "Cancelled."),
    };
    put(state, told[event]());
  }

  attempt(box, watch);
  return view;
}
