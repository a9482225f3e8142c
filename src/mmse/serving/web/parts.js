/** What a score is made of: the shares of each view and of the query's words, as small bars with a legend. */

import { el } from "./dom.js";
import { signed } from "./format.js";

const NAMES = {
  text: "similar text", identity: "past behaviour", shopper: "this shopper", words: "exact words",
  conversion: "sells well", memory: "often taken",
};
const MEANS = {
  text: "how alike query and item read", identity: "what this query led to before", shopper: "what this shopper likes",
  words: "words of the query in the item", conversion: "how often a click on such an item ends in an order",
  memory: "what shoppers took of late, after this query and at all",
};
const PARTS = ["text", "identity", "shopper", "words", "conversion"];

const hueClass = (part, place) => `part-${PARTS.includes(part) ? PARTS.indexOf(part) : 4 + (place % 4)}`;

/** What the colours of the bars mean. */
export function legend(hits) {
  const parts = Object.keys(hits[0].explanation?.parts ?? {});
  if (!parts.length) return null;
  return el("p", { class: "legend" }, el("span", {}, "A score is made of"),
    parts.map((part, place) => el("span", { class: `key ${hueClass(part, place)}`, title: MEANS[part] ?? "" }, NAMES[part] ?? part)));
}

/** One bar: what speaks for the item, each part by its share; what speaks against it is in the details. */
export function partsBar(parts) {
  const entries = Object.entries(parts);
  const label = entries.map(([part, value]) => `${NAMES[part] ?? part} ${signed(value)}`).join(", ");
  return el("div", { class: "parts", role: "img", "aria-label": `Score: ${label}`, title: label },
    entries.map(([part, value], place) => value > 0 && el("i", { class: hueClass(part, place), vars: { "--grow": value } })));
}

/** A row for each part with its number, to the right what speaks for the item and to the left what speaks against it. */
export function partsTable(parts) {
  const entries = Object.entries(parts);
  const maximum = Math.max(...entries.map(([, value]) => Math.abs(value)), 1e-9);
  const total = entries.reduce((sum, [, value]) => sum + value, 0);
  return el("table", { class: "shares" },
    el("caption", { class: "unseen" }, "What the score is made of"),
    el("tbody", {}, entries.map(([part, value], place) => el("tr", {},
      el("th", { scope: "row" }, el("span", { class: `key ${hueClass(part, place)}` }, NAMES[part] ?? part)),
      el("td", { class: "beam" }, el("i", {
        class: `${hueClass(part, place)}${value < 0 ? " against" : ""}`, vars: { "--share": Math.abs(value) / maximum },
      })),
      el("td", { class: "number" }, signed(value))))),
    el("tfoot", {}, el("tr", {}, el("th", { scope: "row" }, "Score"), el("td", {}), el("td", { class: "number" }, total.toFixed(2)))));
}
