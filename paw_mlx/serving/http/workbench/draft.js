/* The input that is being written for each function, wherever one goes meanwhile. */

const drafts = new Map();

/** Return a function's input; one that is given takes its place. */
export function draft(name, text) {
  if (text !== undefined) drafts.set(name, text);
  return drafts.get(name) ?? "";
}

/** A button that takes a case to the view that tries inputs. */
export const tryButton = (page, input, name) => ({
  class: "plain",
  "aria-label": name,
  onclick: () => {
    draft(page.fn.name, input);
    location.hash = page.link(page.ref, "try");
  },
});
