/** A column of numbers as a range with two ends over a histogram. */

import { el, fill } from "./dom.js";
import { count, heading } from "./format.js";
import { group } from "./group.js";

const FINE = 20;

/** The filter of a column that holds numbers. The scale follows the bins, so that each bin is as wide as any other. */
export function rangeFilter({ state }, column) {
  const bars = el("div", { class: "bins", "aria-hidden": "true" });
  const ends = ["from", "to"].map((end) => {
    const slider = el("input", { type: "range", min: 0, step: 1, "aria-label": `${heading(column)} ${end}`, on: {
      input: () => readSlider(end), change: () => commit(end, at(Number(slider.value))),
    } });
    const field = el("input", { type: "number", step: "any", "aria-label": `${heading(column)} ${end}, as a number`, on: {
      change: () => commit(end, field.value === "" ? null : Number(field.value)),
    } });
    return { end, slider, field };
  });
  const [low, high] = ends;
  const node = group(column, el("div", { class: "span" }, bars, low.slider, high.slider),
    el("div", { class: "ends" }, low.field, el("span", { "aria-hidden": "true" }, "–"), high.field));
  let [edges, choice] = [[0, 1], { from: null, to: null }];

  /** The number at a place of the sliders, rounded to what can be told apart there. */
  function at(place) {
    const bin = Math.min(Math.floor(place / FINE), edges.length - 2);
    const width = edges[bin + 1] - edges[bin];
    const value = edges[bin] + (width * (place - bin * FINE)) / FINE;
    const digits = Math.min(Math.max(Math.ceil(-Math.log10(width / FINE || 1)), 0), 6);
    return Number(value.toFixed(digits));
  }

  function placeOf(value) {
    if (value <= edges[0]) return 0;
    if (value >= edges[edges.length - 1]) return (edges.length - 1) * FINE;
    const bin = edges.findLastIndex((edge) => edge <= value);
    return Math.round((bin + (value - edges[bin]) / (edges[bin + 1] - edges[bin] || 1)) * FINE);
  }

  function readSlider(end) {
    const [from, to] = [Number(low.slider.value), Number(high.slider.value)];
    if (from > to) (end === "from" ? low : high).slider.value = end === "from" ? to : from;
    const moved = end === "from" ? low : high;
    moved.field.value = at(Number(moved.slider.value));
    moved.slider.setAttribute("aria-valuetext", moved.field.value);
    shade();
  }

  function commit(end, value) {
    const isUnbounded = end === "from" ? value === null || value <= edges[0] : value === null || value >= edges[edges.length - 1];
    const newChoice = { ...choice, [end]: isUnbounded ? null : value };
    if (newChoice.from !== null && newChoice.to !== null && newChoice.from > newChoice.to) newChoice[end === "from" ? "to" : "from"] = value;
    state.filterBy(column, newChoice);
  }

  function shade() {
    const [from, to] = [Number(low.slider.value), Number(high.slider.value)];
    [...bars.children].forEach((bar, bin) => bar.classList.toggle("off", (bin + 1) * FINE <= from || bin * FINE >= to));
    bars.parentNode.style.setProperty("--from", from / Number(low.slider.max));
    bars.parentNode.style.setProperty("--to", to / Number(low.slider.max));
  }

  function update(condition, facet) {
    choice = condition && !Array.isArray(condition) ? condition : { from: null, to: null };
    const { bins } = facet;
    node.hidden = !bins.length && choice.from === null && choice.to === null;
    edges = bins.length ? [...bins.map((bin) => bin.low), bins[bins.length - 1].high] : [choice.from ?? 0, choice.to ?? (choice.from ?? 0) + 1];
    const maximum = Math.max(...bins.map((bin) => bin.count), 1);
    fill(bars, bins.map((bin) => el("i", { vars: { "--tall": bin.count ? Math.max(bin.count / maximum, 0.04) : 0 } })));
    for (const { end, slider, field } of ends) {
      const limit = end === "from" ? edges[0] : edges[edges.length - 1];
      const value = choice[end] ?? limit;
      slider.max = (edges.length - 1) * FINE;
      slider.value = placeOf(value);
      slider.setAttribute("aria-valuetext", count(value));
      field.value = choice[end] ?? "";
      field.placeholder = count(limit);
    }
    shade();
  }
  return { node, update };
}
