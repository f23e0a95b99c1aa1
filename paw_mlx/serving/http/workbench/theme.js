// Light, dark, or as the system has it. Loaded before the page is drawn, so that nothing flashes.
"use strict";

const theme = {
  names: ["auto", "light", "dark"],
  get() {
    return document.documentElement.dataset.theme ?? "auto";
  },
  set(name) {
    if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem("paw-theme", name);
    } catch {
      // Nothing may be kept here: the theme lasts as long as the page.
    }
  },
};

try {
  theme.set(localStorage.getItem("paw-theme") ?? "auto");
} catch {
  theme.set("auto");
}
window.theme = theme;
