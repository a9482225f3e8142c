/** The filters that are on, each with a way out. */

import { el } from "./dom.js";
import { count, heading, pathEnd, percent } from "./format.js";
import { PAGE } from "./state.js";

/** A row of chips, or null where nothing is filtered. */
export function chips({ state, catalogue }, params) {
  const kinds = Object.fromEntries(catalogue.columns.map(({ name, kind }) => [name, kind]));
  const items = [];
  const chip = (column, text, remove) => items.push(el("li", {}, el("button", { type: "button", class: "chip", on: { click: remove } },
    el("span", { class: "unseen" }, "Remove filter "), column && el("span", { class: "of" }, heading(column)),
    el("bdi", {}, text), el("span", { class: "cross", "aria-hidden": "true" }, "×"))));
  for (const [column, condition] of Object.entries(params.filter)) {
    if (!Array.isArray(condition)) chip(column, range(condition), () => state.filterBy(column, null));
    else for (const value of condition)
      chip(column, kinds[column] === "path" ? pathEnd(value) : kinds[column] === "flag" ? (value === "true" ? "yes" : "no") : value,
        () => state.filterBy(column, condition.filter((choice) => choice !== value)));
  }
  if (params.min && params.channel === "hybrid") chip("", `at least ${percent(params.min)} likely`, () => state.set({ min: 0, k: PAGE }));
  if (!items.length) return null;
  return el("ul", { class: "chips", role: "list", "aria-label": "Filters that are on" }, items,
    items.length > 1 && el("li", {}, el("button", { type: "button", class: "link", on: {
      click: () => state.set({ filter: {}, min: 0, k: PAGE }),
    } }, "Clear all")));
}

function range({ from, to }) {
  if (from === null) return `up to ${count(to)}`;
  return to === null ? `from ${count(from)}` : `${count(from)} – ${count(to)}`;
}
