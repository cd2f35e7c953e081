"use strict";
// Runs before the first paint, so that a page kept dark does not flash light.
(() => {
  try {
    const theme = JSON.parse(localStorage.getItem("atypia.prefs") || "{}").theme;
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage is blocked or damaged: keep the system's theme.
  }
})();
