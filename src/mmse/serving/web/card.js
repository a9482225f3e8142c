/** A hit as a card: its picture, what it is, what it costs, and how likely it is to be wanted. */

import { el } from "./dom.js";
import { likelihood, names, pathEnd, percent, price } from "./format.js";
import { partsBar } from "./parts.js";
import { pictureOf } from "./picture.js";
import { markWords, reasons } from "./why.js";

/** The card of a hit, as a list item. */
export function card({ state }, hit) {
  const { item, explanation } = hit;
  const details = reasons(hit);
  const open = () => state.set({ item: hit.item_id });
  const node = el("li", { class: "card", "data-id": hit.item_id },
    el("div", { class: "shot", on: { click: open } }, pictureOf(item), el("span", { class: "rank", "aria-hidden": "true" }, hit.rank),
      item.available === false && el("span", { class: "gone" }, "Sold out")),
    el("div", { class: "about" },
      el("h3", { dir: "auto", title: hit.title }, el("button", { type: "button", class: "title", on: { click: open } },
        markWords(hit.title, explanation?.matched ?? []))),
      el("p", { class: "facts", dir: "auto" }, facts(item)),
      offerLine(item),
      hit.variants.length > 0 && el("p", { class: "facts" }, `${hit.variants.length} more variant${hit.variants.length > 1 ? "s" : ""}`),
      chance(hit),
      explanation && partsBar(explanation.parts),
      details));
  details?.addEventListener("toggle", () => node.classList.toggle("open", details.open));
  return node;
}

/** Price, rating and whether it can be had. */
export function offerLine(item) {
  return el("p", { class: "worth" },
    typeof item.price === "number" && el("span", { class: "price" }, price(item.price, item.currency)),
    typeof item.rating === "number" && el("span", { class: "rating" }, el("span", { "aria-hidden": "true" }, "★"),
      el("span", { class: "unseen" }, "rated "), item.rating.toFixed(1)),
    typeof item.available === "boolean" && el("span", { class: item.available ? "stock" : "stock out" },
      item.available ? "In stock" : "Sold out"));
}

/** Brand and where it stands in the catalogue. */
export function facts(item) {
  const place = item.category ? pathEnd(item.category) : "";
  return [
    item.brand && el("bdi", { class: "brandname" }, names(item.brand)),
    item.brand && place && " · ",
    place && el("bdi", {}, place),
  ];
}

/** How likely a hit is to be clicked, in words and as a number. */
export function chance({ probability }) {
  if (probability === null) return el("p", { class: "chance none" }, "No probability: neither this channel nor this log gives one");
  return el("p", { class: "chance", vars: { "--share": Math.sqrt(Math.min(probability / 0.6, 1)) } },
    el("span", { class: "gauge", "aria-hidden": "true" }), el("span", {}, likelihood(probability)), " ",
    el("strong", {}, percent(probability)));
}

/** Arrow keys go from card to card, Escape back to the search field. */
export function moveAmong(event) {
  if (!event.target.matches(".title")) return;
  const titles = [...event.currentTarget.querySelectorAll(".title")];
  const at = titles.indexOf(event.target);
  const columns = getComputedStyle(event.currentTarget).gridTemplateColumns.split(" ").length;
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns }[event.key];
  if (event.key === "Escape" || (step < 0 && at + step < 0)) document.getElementById("q").focus();
  else if (step && titles[at + step]) titles[at + step].focus();
  else if (!step) return;
  event.preventDefault();
}
