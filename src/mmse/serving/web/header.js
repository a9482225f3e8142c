/** The head of the page: the search field, the views, the theme, and the keys that work everywhere. */

import { debounced } from "./dom.js";
import { isDark, onScheme, turn } from "./scheme.js";
import { PAGE } from "./state.js";
import { suggestions } from "./suggestions.js";

const TYPING_MS = 140;

/** Wires the head to the state; `update` follows changes that came from elsewhere, such as the back button. */
export function header({ state }) {
  const field = document.getElementById("q");
  const ask = (typing) => state.set({ q: field.value.trim(), k: PAGE, item: "" }, { typing });
  const typed = debounced(() => ask(true), TYPING_MS);
  field.addEventListener("input", typed);
  const list = suggestions(field, (text) => {
    field.value = text;
    typed.cancel();
    ask(false);
  }, () => state.now.version);
  field.addEventListener("keydown", (event) => {
    if (list.handles(event)) return;
    if (event.key === "Escape" && field.value) {
      field.value = "";
      typed();
    } else if (event.key === "ArrowDown") {
      const hit = document.querySelector("#main .title");
      if (hit) event.preventDefault();
      hit?.focus();
    }
  });
  field.form.addEventListener("submit", (event) => {
    event.preventDefault();
    typed.cancel();
    list.close();
    ask(true);
    state.settle();
  });
  document.addEventListener("keydown", (event) => {
    const free = !event.target.closest("input, textarea, select, dialog[open]") && !event.ctrlKey && !event.metaKey && !event.altKey;
    if (event.key === "/" && free) {
      event.preventDefault();
      field.select();
      field.focus();
    }
  });
  const links = [...document.querySelectorAll(".views a")];
  for (const link of [...links, document.querySelector(".brand")])
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
      event.preventDefault();
      typed.cancel();
      if (link.dataset.view) state.set({ view: link.dataset.view, item: "" });
      else state.set({ q: "", view: "search", filter: {}, min: 0, item: "", k: PAGE });
    });
  themeButton();

  function update(params) {
    const waits = document.activeElement === field && field.value.trim() === params.q;
    if (!waits) field.value = params.q;
    for (const link of links) {
      if (link.dataset.view === params.view) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
      link.href = state.link({ view: link.dataset.view });
    }
  }
  return { update };
}

function themeButton() {
  const button = document.getElementById("theme");
  button.addEventListener("click", turn);
  onScheme(() => button.setAttribute("aria-pressed", String(isDark())));
}
