/** The filters that are on, each with a way out. */

import { el } from "./dom.js";
import { count, heading, pathEnd, percent } from "./format.js";
import { PAGE } from "./state.js";

/** A row of chips, or null where nothing is filtered. */
export function chips({ state, catalogue }, now) {
  const kinds = Object.fromEntries(catalogue.columns.map(({ name, kind }) => [name, kind]));
  const on = [];
  const chip = (column, text, off) => on.push(el("li", {}, el("button", { type: "button", class: "chip", on: { click: off } },
    el("span", { class: "unseen" }, "Remove filter "), column && el("span", { class: "of" }, heading(column)),
    el("bdi", {}, text), el("span", { class: "cross", "aria-hidden": "true" }, "×"))));
  for (const [column, only] of Object.entries(now.filter)) {
    if (!Array.isArray(only)) chip(column, range(only), () => state.filterBy(column, null));
    else for (const value of only)
      chip(column, kinds[column] === "path" ? pathEnd(value) : kinds[column] === "flag" ? (value === "true" ? "yes" : "no") : value,
        () => state.filterBy(column, only.filter((other) => other !== value)));
  }
  if (now.min && now.channel === "hybrid") chip("", `at least ${percent(now.min)} likely`, () => state.set({ min: 0, k: PAGE }));
  if (!on.length) return null;
  return el("ul", { class: "chips", role: "list", "aria-label": "Filters that are on" }, on,
    on.length > 1 && el("li", {}, el("button", { type: "button", class: "link", on: {
      click: () => state.set({ filter: {}, min: 0, k: PAGE }),
    } }, "Clear all")));
}

function range({ from, to }) {
  if (from === null) return `up to ${count(to)}`;
  return to === null ? `from ${count(from)}` : `${count(from)} – ${count(to)}`;
}
