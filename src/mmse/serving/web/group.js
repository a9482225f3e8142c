/** What every filter is made of: a group that folds away, and a box to tick. */

import { el } from "./dom.js";
import { count, heading } from "./format.js";

/** A group that folds away. */
export function group(column, ...children) {
  return el("details", { class: "group", open: true }, el("summary", {}, heading(column)), ...children);
}

/** A box to tick, with how many items a click on it finds, or finds at least. */
export function tick(text, number, isExact, checked, change) {
  const input = el("input", { type: "checkbox", checked, on: { change: () => change(input.checked) } });
  return el("label", { class: "tick" }, input, el("span", { class: "name", dir: "auto" }, text),
    countOf(number, isExact));
}

/** How many items a click finds, with a plus sign where it may be more. */
export function countOf(number, isExact) {
  const isLeast = !isExact && number > 0;
  return el("span", { class: "count", title: isLeast ? "at least so many" : null }, isLeast ? `${count(number)}+` : count(number));
}
