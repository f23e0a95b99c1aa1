/* What goes on in the background: tuning, with its log, and compile jobs. */

import { ask, pathOf } from "./api.js";
import { attempt, card, counted, field, h, say, when } from "./dom.js";
import { watchCompile } from "./compile.js";

const EVERY_MS = 1000;

export function showTune(page) {
  const { fn, root, signal } = page;
  const minutes = h("input", { type: "number", min: 0, step: "any", placeholder: "no limit" });
  const steps = h("input", { type: "number", min: 1, step: 1, placeholder: "up to 240" });
  const gate = h("input", {
    placeholder: "accuracy >= 95%",
    spellcheck: "false",
    autocomplete: "off",
  });
  const box = h("div");
  const jobs = h("div", { class: "works" });

  root.append(
    card(
      "",
      h(
        "p",
        {},
        `Train ${fn.name} on by its ${counted(fn.num_cases, "case")}. A new version becomes the current one only if it is right on more cases that neither was trained on.`,
      ),
      h(
        "form",
        { onsubmit: (event) => (event.preventDefault(), start()) },
        h(
          "div",
          { class: "fields" },
          field("Minutes at most", minutes),
          field("Steps at most", steps),
          field("Gate", gate),
        ),
        h("div", { class: "row" }, h("button", { class: "main" }, "Tune")),
      ),
      box,
    ),
    jobs,
  );
  attempt(box, async () => {
    const found = (await ask("GET", "/jobs", { signal })).jobs;
    jobs.append(
      ...found.filter((job) => job.argv.includes(fn.name)).map((job) => watchJob(page, job)),
    );
  });

  async function start() {
    const body = {};
    if (minutes.value) body.minutes = Number(minutes.value);
    if (steps.value) body.steps = Number(steps.value);
    if (gate.value.trim()) body.gate = gate.value.trim();
    await attempt(box, async () => {
      const job = await ask("POST", pathOf("tune", fn.name), { body });
      jobs.prepend(watchJob(page, job));
      say(`${job.id} goes on in the background`);
    });
  }
}

export function showActivity(page) {
  const { root, signal } = page;
  const box = h("div");
  root.append(box);
  attempt(box, async () => {
    const [{ compiles }, { jobs }] = await Promise.all([
      ask("GET", "/compiles", { signal }),
      ask("GET", "/jobs", { signal }),
    ]);
    root.append(
      ...compiles.map((job) => watchCompile(page, job, signal)),
      ...jobs.map((job) => watchJob(page, job)),
    );
    if (!compiles.length && !jobs.length) {
      root.append(card("", h("p", {}, "Nothing was compiled or tuned yet.")));
    }
  });
}

/** A background job as it goes on: its state, the end of its log, and a button that stops it. */
function watchJob(page, job) {
  const { signal } = page;
  const state = h("span", { class: "chip" });
  const log = h("pre", {
    class: "log",
    tabindex: "0",
    role: "log",
    "aria-live": "off",
    "aria-label": `Log of ${job.id}`,
  });
  const box = h("div");
  const stop = h(
    "button",
    { class: "plain", onclick: () => attempt(box, () => ask("DELETE", `/jobs/${job.id}`)) },
    "Stop",
  );

  function show(now) {
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 4;
    state.textContent = now.state;
    state.className = `chip ${{ done: "good", failed: "bad" }[now.state] ?? ""}`;
    log.textContent = (now.log ?? []).join("\n") || "(nothing yet)";
    if (isAtEnd) log.scrollTop = log.scrollHeight;
    stop.hidden = now.state !== "running";
  }

  async function watch() {
    for (let before = job.state; !signal.aborted;) {
      const now = await ask("GET", `/jobs/${job.id}`, { signal });
      show(now);
      if (now.state !== "running") {
        if (before === "running") {
          say(`${job.id} is ${now.state}`);
          await page.reload();
        }
        return;
      }
      before = now.state;
      await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    }
  }

  show(job);
  attempt(box, watch);
  return h(
    "section",
    { class: "card work", "aria-label": `Job ${job.id}` },
    h("div", { class: "row spread" }, h("h2", {}, job.id, " ", state), stop),
    h("p", { class: "soft" }, `since ${when(job.started)}: paw-mlx ${job.argv.join(" ")}`),
    log,
    box,
  );
}
