/** A column of paths as a tree: a branch stands for all that is below it. */

import { el, fill, freshId, icon } from "./dom.js";
import { group, tick } from "./group.js";
import { steps } from "./format.js";

const SHOWN = 7;

/** The filter of a column that holds paths `a > b > c`. */
export function treeFilter({ state }, column) {
  const slot = el("div", { class: "tree" });
  const node = group(column, slot);
  const unfolded = new Map();
  let chosen = [];

  function toggle(path, on) {
    const others = chosen.filter((other) => key(other) !== key(path) && !(on && below(other, path)) && !(on && below(path, other)));
    state.filterBy(column, on ? [...others, path] : others);
  }

  function branch(children, depth, where) {
    const sorted = [...children.values()].sort((a, b) => b.count - a.count);
    const all = unfolded.get(`all ${where}`) || sorted.length <= SHOWN + 1;
    const shown = all ? sorted : sorted.filter((one, place) => place < SHOWN || touched(one.path));
    const id = freshId("branch");
    return el("ul", { role: "list", id }, shown.map((one) => twig(one, depth)),
      shown.length < sorted.length && el("li", {}, el("button", { type: "button", class: "link", on: { click: () => {
        unfolded.set(`all ${where}`, true);
        draw();
      } } }, `Show all ${sorted.length}`)));
  }

  function twig(one, depth) {
    const open = unfolded.get(key(one.path)) ?? (touched(one.path) || one.opens);
    const on = chosen.some((value) => key(value) === key(one.path));
    const covered = chosen.some((value) => below(one.path, value));
    const inner = open && one.children.size ? branch(one.children, depth + 1, key(one.path)) : null;
    const row = tick(one.name, one.count, on || covered, (now) => toggle(one.path, now));
    const box = row.querySelector("input");
    box.indeterminate = !on && !covered && touched(one.path);
    box.dataset.path = key(one.path);
    return el("li", { class: "twig" },
      el("div", { class: "twig-row" },
        one.children.size ? el("button", { type: "button", class: "fold", "aria-expanded": String(Boolean(open)), "aria-label": `Below ${one.name}`, "data-fold": key(one.path), on: {
          click: () => {
            unfolded.set(key(one.path), !open);
            draw();
          },
        } }, icon("M7 5l6 5-6 5")) : el("span", { class: "fold" }), row),
      inner);
  }

  const touched = (path) => chosen.some((value) => key(value) === key(path) || below(value, path));
  let root = new Map();

  function draw() {
    const had = slot.contains(document.activeElement) ? document.activeElement.dataset : null;
    fill(slot, branch(root, 0, ""));
    if (had?.path) slot.querySelector(`[data-path="${CSS.escape(had.path)}"]`)?.focus();
    if (had?.fold) slot.querySelector(`[data-fold="${CSS.escape(had.fold)}"]`)?.focus();
  }

  function update(only, facet) {
    chosen = Array.isArray(only) ? only : [];
    root = treeOf([...facet.values, ...chosen.map((value) => ({ value, count: 0 }))]);
    openLargest(root);
    draw();
    node.hidden = !root.size;
  }
  return { node, update };
}

/** Paths and their counts as a tree; a branch that is not counted itself has the sum of what is below it. */
export function treeOf(values) {
  const root = new Map();
  for (const { value, count } of values) {
    let children = root;
    let [path, twig] = ["", null];
    for (const name of steps(value)) {
      path = path ? `${path} > ${name}` : name;
      const known = [...children.keys()].find((other) => key(other) === key(name)) ?? name;
      if (!children.has(known)) children.set(known, { name: known, path, own: null, count: 0, children: new Map() });
      twig = children.get(known);
      children = twig.children;
    }
    if (twig) twig.own = (twig.own ?? 0) + count;
  }
  const sum = (twig) => {
    const inner = [...twig.children.values()].reduce((total, child) => total + sum(child), 0);
    twig.count = Math.max(twig.own ?? 0, inner);
    return twig.count;
  };
  for (const twig of root.values()) sum(twig);
  return root;
}

/** Opens the branch where most candidates are, as far down as there is one such. */
function openLargest(children) {
  const all = [...children.values()];
  const total = all.reduce((sum, one) => sum + one.count, 0);
  const most = all.sort((a, b) => b.count - a.count)[0];
  if (!most || most.count < total * 0.5) return;
  most.opens = true;
  openLargest(most.children);
}

const key = (path) => steps(path).join(" > ").toLowerCase();
const below = (path, above) => key(path).startsWith(`${key(above)} > `);
