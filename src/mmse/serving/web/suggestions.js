/** The list below the search field: what the shopper may be about to type. */

import * as api from "./api.js";
import { debounced, el, fill } from "./dom.js";

const WAIT_MS = 90;
const SHOWN = 8;
const SOURCES = { query: "", brand: "brand", category: "category" };

/**
 * A list of options for `field`, moved through by the arrow keys; `pick` is called with the text that is chosen. `handles`
 * tells whether the list took a key.
 */
export function suggestions(field, pick, version) {
  const list = el("ul", { class: "suggestions", id: "suggestions", role: "listbox", "aria-label": "Suggestions", hidden: true });
  field.after(list);
  field.setAttribute("aria-controls", list.id);
  field.setAttribute("aria-autocomplete", "list");
  const ask = api.latestOnly();
  let active = -1;

  function close() {
    suggest.cancel();
    list.hidden = true;
    active = -1;
    field.removeAttribute("aria-activedescendant");
  }
  function mark(index) {
    active = index;
    [...list.children].forEach((option, at) => option.setAttribute("aria-selected", String(at === index)));
    if (index < 0) field.removeAttribute("aria-activedescendant");
    else field.setAttribute("aria-activedescendant", list.children[index].id);
  }
  function choose(text) {
    close();
    pick(text);
  }
  const suggest = debounced(async () => {
    const typed = field.value;
    if (!typed.trim()) return close();
    let answer = null;
    try {
      answer = await ask((signal) => api.suggest(typed, SHOWN, version(), signal));
    } catch {
      close(); // a search says what is wrong with the server
    }
    if (answer === null || document.activeElement !== field) return;
    const texts = answer.suggestions.filter(({ text }) => text !== typed.trim());
    fill(list, texts.map(({ text, source }, at) => el("li", { role: "option", id: `suggestion-${at}`, "aria-selected": "false",
      on: { mousedown: (event) => { event.preventDefault(); choose(text); } } }, el("bdi", {}, text), SOURCES[source] && el("span", {}, SOURCES[source]))));
    mark(-1);
    list.hidden = texts.length === 0;
  }, WAIT_MS);
  field.addEventListener("input", suggest);
  field.addEventListener("blur", close);

  function handles(event) {
    if (list.hidden) return false;
    const last = list.children.length - 1;
    if (event.key === "ArrowDown") mark(active < last ? active + 1 : -1);
    else if (event.key === "ArrowUp") mark(active < 0 ? last : active - 1);
    else if (event.key === "Enter" && active >= 0) choose(list.children[active].querySelector("bdi").textContent);
    else if (event.key === "Escape") close();
    else return false;
    event.preventDefault();
    return true;
  }
  return { close, handles };
}
