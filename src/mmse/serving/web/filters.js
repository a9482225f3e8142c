/** The filters: for each column of the catalogue what could be chosen and how many of the candidates that leaves. */

import { el, fill, freshId } from "./dom.js";
import { count, heading } from "./format.js";
import { countOf, group, tick } from "./group.js";
import { rangeFilter } from "./range.js";
import { treeFilter } from "./tree.js";

const N_SHOWN = 6;
const SEARCHED_FROM = 12;
const ORDER = { path: 0, flag: 1, number: 2, name: 3 };

/** The panel; `update` is given the state and the counts of the last answer. */
export function filterPanel(shop) {
  const columns = [...shop.catalogue.columns].sort((a, b) => ORDER[a.kind] - ORDER[b.kind]);
  const makers = { name: namesFilter, path: treeFilter, number: rangeFilter, flag: flagFilter };
  const entries = columns.map((column) => ({ column, filter: makers[column.kind](shop, column.name) }));
  const node = el("section", { class: "filters", hidden: true }, el("h2", { class: "quiet" }, "Filters"), entries.map(({ filter }) => filter.node));
  function update(params, counts) {
    node.hidden = !columns.length;
    for (const { column, filter } of entries) {
      const facet = counts.find((columnFacet) => columnFacet.column === column.name);
      if (facet) filter.update(params.filter[column.name] ?? null, facet);
    }
  }
  return { node, update };
}

/** Names as boxes to tick, most first; long lists unfold and can be searched. */
function namesFilter({ state }, column) {
  const id = freshId("names");
  const list = el("ul", { role: "list", id });
  const moreButton = el("button", { type: "button", class: "link", "aria-controls": id, on: { click: () => {
    isUnfolded = !isUnfolded;
    draw();
  } } });
  const searchBox = el("input", { type: "search", class: "seek", "aria-label": `Find in ${heading(column)}`, placeholder: "Find", on: { input: draw } });
  const node = group(column, searchBox, list, moreButton);
  let isUnfolded = false;
  let [choices, values, isExact] = [[], [], false];

  function toggle(value, isOn) {
    state.filterBy(column, isOn ? [...choices, value] : choices.filter((choice) => !isSame(choice, value)));
  }

  function draw() {
    const absent = choices.filter((value) => !values.some((entry) => isSame(entry.value, value))).map((value) => ({ value, count: 0 }));
    const text = searchBox.value.trim().toLowerCase();
    const entries = [...absent, ...values].filter((entry) => !text || String(entry.value).toLowerCase().includes(text));
    const isOn = (entry) => choices.some((value) => isSame(value, entry.value));
    const shortList = entries.filter((entry, place) => isOn(entry) || place < N_SHOWN);
    const focused = list.contains(document.activeElement) ? document.activeElement.closest("li").dataset.value : null;
    const visible = isUnfolded || text ? entries.slice(0, 200) : shortList;
    fill(list, visible.map((entry) => el("li", { "data-value": String(entry.value) },
      tick(entry.value, entry.count, isExact, isOn(entry), (checked) => toggle(String(entry.value), checked)))));
    if (focused !== null) [...list.children].find((row) => row.dataset.value === focused)?.querySelector("input").focus();
    searchBox.hidden = values.length < SEARCHED_FROM;
    moreButton.hidden = Boolean(text) || entries.length <= shortList.length;
    moreButton.textContent = isUnfolded ? "Show fewer" : `Show all ${count(entries.length)}`;
    moreButton.setAttribute("aria-expanded", String(isUnfolded));
    node.hidden = !values.length && !choices.length;
  }

  function update(condition, facet) {
    [choices, values, isExact] = [Array.isArray(condition) ? condition : [], facet.values, facet.exact];
    draw();
  }
  return { node, update };
}

/** A switch: on, only items whose flag is set. */
function flagFilter({ state }, column) {
  const number = el("span", {});
  const input = el("input", { type: "checkbox", role: "switch", on: { change: () => state.filterBy(column, input.checked ? ["true"] : null) } });
  const node = el("label", { class: "switch" }, el("span", { class: "name" }, `${heading(column)} only`), number, input);
  function update(condition, facet) {
    input.checked = Array.isArray(condition) && condition.includes("true");
    fill(number, countOf(facet.values.find((entry) => String(entry.value) === "true")?.count ?? 0, facet.exact));
    node.hidden = !facet.values.length && !input.checked;
  }
  return { node, update };
}

function isSame(a, b) {
  return String(a).trim().toLowerCase() === String(b).trim().toLowerCase();
}
