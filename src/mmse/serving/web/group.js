/** What every filter is made of: a group that folds away, and a box to tick. */

import { el } from "./dom.js";
import { count, heading } from "./format.js";

/** A group that folds away. */
export function group(column, ...children) {
  return el("details", { class: "group", open: true }, el("summary", {}, heading(column)), ...children);
}

/** A box to tick, with how many candidates have it. */
export function tick(text, number, checked, change) {
  const input = el("input", { type: "checkbox", checked, on: { change: () => change(input.checked) } });
  return el("label", { class: "tick" }, input, el("span", { class: "name", dir: "auto" }, text),
    el("span", { class: "count" }, count(number)));
}
