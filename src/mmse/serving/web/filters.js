/** The filters: for each column of the catalogue what could be chosen and how many of the candidates that leaves. */

import { el, fill, freshId } from "./dom.js";
import { count, heading } from "./format.js";
import { group, tick } from "./group.js";
import { rangeFilter } from "./range.js";
import { treeFilter } from "./tree.js";

const SHOWN = 6;
const SEARCHED_FROM = 12;
const ORDER = { path: 0, flag: 1, number: 2, name: 3 };

/** The panel; `update` is given the state and the counts of the last answer. */
export function filterPanel(shop) {
  const columns = [...shop.catalogue.columns].sort((a, b) => ORDER[a.kind] - ORDER[b.kind]);
  const makers = { name: namesFilter, path: treeFilter, number: rangeFilter, flag: flagFilter };
  const made = columns.map((column) => ({ column, filter: makers[column.kind](shop, column.name) }));
  const node = el("section", { class: "filters", hidden: true }, el("h2", { class: "quiet" }, "Filters"), made.map(({ filter }) => filter.node));
  function update(now, counts) {
    node.hidden = !columns.length;
    for (const { column, filter } of made) {
      const facet = counts.find((one) => one.column === column.name);
      if (facet) filter.update(now.filter[column.name] ?? null, facet);
    }
  }
  return { node, update };
}

/** Names as boxes to tick, most first; long lists unfold and can be searched. */
function namesFilter({ state }, column) {
  const id = freshId("names");
  const list = el("ul", { role: "list", id });
  const more = el("button", { type: "button", class: "link", "aria-controls": id, on: { click: () => {
    unfolded = !unfolded;
    draw();
  } } });
  const sought = el("input", { type: "search", class: "seek", "aria-label": `Find in ${heading(column)}`, placeholder: "Find", on: { input: draw } });
  const node = group(column, sought, list, more);
  let unfolded = false;
  let [chosen, values] = [[], []];

  function toggle(value, on) {
    state.filterBy(column, on ? [...chosen, value] : chosen.filter((other) => !same(other, value)));
  }

  function draw() {
    const missing = chosen.filter((value) => !values.some((one) => same(one.value, value))).map((value) => ({ value, count: 0 }));
    const text = sought.value.trim().toLowerCase();
    const all = [...missing, ...values].filter((one) => !text || String(one.value).toLowerCase().includes(text));
    const isOn = (one) => chosen.some((value) => same(value, one.value));
    const first = all.filter((one, place) => isOn(one) || place < SHOWN);
    const focused = list.contains(document.activeElement) ? document.activeElement.closest("li").dataset.value : null;
    const drawn = unfolded || text ? all.slice(0, 200) : first;
    fill(list, drawn.map((one) => el("li", { "data-value": String(one.value) },
      tick(one.value, one.count, isOn(one), (on) => toggle(String(one.value), on)))));
    if (focused !== null) [...list.children].find((row) => row.dataset.value === focused)?.querySelector("input").focus();
    sought.hidden = values.length < SEARCHED_FROM;
    more.hidden = Boolean(text) || all.length <= first.length;
    more.textContent = unfolded ? "Show fewer" : `Show all ${count(all.length)}`;
    more.setAttribute("aria-expanded", String(unfolded));
    node.hidden = !values.length && !chosen.length;
  }

  function update(only, facet) {
    [chosen, values] = [Array.isArray(only) ? only : [], facet.values];
    draw();
  }
  return { node, update };
}

/** A switch: on, only items whose flag is set. */
function flagFilter({ state }, column) {
  const number = el("span", { class: "count" });
  const input = el("input", { type: "checkbox", role: "switch", on: { change: () => state.filterBy(column, input.checked ? ["true"] : null) } });
  const node = el("label", { class: "switch" }, el("span", { class: "name" }, `${heading(column)} only`), number, input);
  function update(only, facet) {
    input.checked = Array.isArray(only) && only.includes("true");
    number.textContent = count(facet.values.find((one) => String(one.value) === "true")?.count ?? 0);
    node.hidden = !facet.values.length && !input.checked;
  }
  return { node, update };
}

function same(one, other) {
  return String(one).trim().toLowerCase() === String(other).trim().toLowerCase();
}
