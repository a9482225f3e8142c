/** A column of paths as a tree: a branch stands for all that is below it. */

import { el, fill, freshId, icon } from "./dom.js";
import { group, tick } from "./group.js";
import { steps } from "./format.js";

const N_SHOWN = 7;

/** The filter of a column that holds paths `a > b > c`. */
export function treeFilter({ state }, column) {
  const slot = el("div", { class: "tree" });
  const node = group(column, slot);
  const isUnfolded = new Map();
  let [choices, isExact] = [[], false];

  function toggle(path, isOn) {
    const rest = choices.filter((choice) => key(choice) !== key(path) && !(isOn && isBelow(choice, path)) && !(isOn && isBelow(path, choice)));
    state.filterBy(column, isOn ? [...rest, path] : rest);
  }

  function branch(children, depth, where) {
    const sorted = [...children.values()].sort((a, b) => b.count - a.count);
    const showsAll = isUnfolded.get(`all ${where}`) || sorted.length <= N_SHOWN + 1;
    const twigs = showsAll ? sorted : sorted.filter((entry, place) => place < N_SHOWN || isTouched(entry.path));
    const id = freshId("branch");
    return el("ul", { role: "list", id }, twigs.map((entry) => twig(entry, depth)),
      twigs.length < sorted.length && el("li", {}, el("button", { type: "button", class: "link", on: { click: () => {
        isUnfolded.set(`all ${where}`, true);
        draw();
      } } }, `Show all ${sorted.length}`)));
  }

  function twig(entry, depth) {
    const open = isUnfolded.get(key(entry.path)) ?? (isTouched(entry.path) || entry.opens);
    const isOn = choices.some((value) => key(value) === key(entry.path));
    const isCovered = choices.some((value) => isBelow(entry.path, value));
    const inner = open && entry.children.size ? branch(entry.children, depth + 1, key(entry.path)) : null;
    const row = tick(entry.name, entry.count, isExact, isOn || isCovered, (isChecked) => toggle(entry.path, isChecked));
    const box = row.querySelector("input");
    box.indeterminate = !isOn && !isCovered && isTouched(entry.path);
    box.dataset.path = key(entry.path);
    return el("li", { class: "twig" },
      el("div", { class: "twig-row" },
        entry.children.size ? el("button", { type: "button", class: "fold", "aria-expanded": String(Boolean(open)), "aria-label": `Below ${entry.name}`, "data-fold": key(entry.path), on: {
          click: () => {
            isUnfolded.set(key(entry.path), !open);
            draw();
          },
        } }, icon("M7 5l6 5-6 5")) : el("span", { class: "fold" }), row),
      inner);
  }

  const isTouched = (path) => choices.some((value) => key(value) === key(path) || isBelow(value, path));
  let root = new Map();

  function draw() {
    const focus = slot.contains(document.activeElement) ? document.activeElement.dataset : null;
    fill(slot, branch(root, 0, ""));
    if (focus?.path) slot.querySelector(`[data-path="${CSS.escape(focus.path)}"]`)?.focus();
    if (focus?.fold) slot.querySelector(`[data-fold="${CSS.escape(focus.fold)}"]`)?.focus();
  }

  function update(condition, facet) {
    [choices, isExact] = [Array.isArray(condition) ? condition : [], facet.exact];
    root = treeOf([...facet.values, ...choices.map((value) => ({ value, count: 0 }))]);
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
      const existing = [...children.keys()].find((child) => key(child) === key(name)) ?? name;
      if (!children.has(existing)) children.set(existing, { name: existing, path, own: null, count: 0, children: new Map() });
      twig = children.get(existing);
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
  const twigs = [...children.values()];
  const total = twigs.reduce((sum, twig) => sum + twig.count, 0);
  const largest = twigs.sort((a, b) => b.count - a.count)[0];
  if (!largest || largest.count < total * 0.5) return;
  largest.opens = true;
  openLargest(largest.children);
}

const key = (path) => steps(path).join(" > ").toLowerCase();
const isBelow = (path, ancestor) => key(path).startsWith(`${key(ancestor)} > `);
