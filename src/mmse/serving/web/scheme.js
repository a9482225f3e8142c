/** Whether the page is dark: by what was chosen here, or else by what the system says. */

const SYSTEM = matchMedia("(prefers-color-scheme: dark)");
const KEY = "mmse-theme";
const root = document.documentElement;

/** Whether the page is dark now. */
export function isDark() {
  return root.dataset.theme ? root.dataset.theme === "dark" : SYSTEM.matches;
}

/** Turns light to dark and back, and keeps the choice for the next visit. */
export function turn() {
  root.dataset.theme = isDark() ? "light" : "dark";
  try {
    localStorage.setItem(KEY, root.dataset.theme);
  } catch {
    // Storage is closed to this page: the choice holds until it is left.
  }
  tell();
}

/** Calls `act` now and whenever the page turns light or dark. */
export function onScheme(act) {
  document.addEventListener("schemechange", act);
  act();
}

function tell() {
  document.dispatchEvent(new CustomEvent("schemechange"));
}

SYSTEM.addEventListener("change", tell);
