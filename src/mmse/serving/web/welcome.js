/** The page before anything is asked: how large the catalogue is, and queries to begin with. */

import { el } from "./dom.js";
import { count } from "./format.js";
import { picture } from "./picture.js";
import { PAGE } from "./state.js";

/** The empty page of a catalogue. */
export function welcome({ state, catalogue }) {
  const examples = catalogue.examples.slice(0, 12);
  const asks = (query) => (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    state.set({ q: query, k: PAGE });
  };
  const node = el("section", { class: "welcome" },
    el("h1", {}, "What are you looking for?"),
    el("p", { class: "lead" }, "Search ", el("strong", {}, count(catalogue.items)),
      " items by what they are, not only by what they are called."),
    examples.length > 0 && el("h2", { class: "quiet" }, "Try one of these"),
    el("ul", { class: "examples", role: "list" }, examples.map((query) =>
      el("li", {}, el("a", { href: state.link({ q: query }), on: { click: asks(query) } },
        picture({ title: query, category: query }, "small"),
        el("span", { dir: "auto" }, query))))));
  return { node };
}
