/** One item in a dialog: everything the catalogue says of it. */

import * as api from "./api.js";
import { facts, offerLine } from "./card.js";
import { el, fill, icon } from "./dom.js";
import { count, heading, steps } from "./format.js";
import { pictureOf } from "./picture.js";
import { problemBox } from "./problem.js";
import { PAGE } from "./state.js";

const IN_HEADER = new Set(["title", "price", "rating", "available", "currency", "image", "image_url", "item_row"]);

/** The dialog; it is open while the state names an item. */
export function itemDialog(shop) {
  const { state, busy } = shop;
  const ask = api.latestOnly(busy);
  const body = el("div", { class: "item-body" });
  const dialog = el("dialog", { class: "item", "aria-label": "Item", on: {
    close: () => {
      if (state.now.item) state.set({ item: "" });
    },
    click: (event) => {
      if (event.target === dialog) dialog.close();
    },
  } }, el("form", { method: "dialog" }, el("button", { class: "round close", "aria-label": "Close" }, icon("M5 5l10 10M15 5 5 15"))), body);
  document.body.append(dialog);
  let openItem = "";

  async function update(params) {
    if (!params.item) {
      openItem = "";
      if (dialog.open) dialog.close();
      return;
    }
    if (params.item === openItem) return;
    openItem = params.item;
    try {
      const answer = await ask((signal) => api.item(params.item, signal));
      if (answer) fill(body, about(answer.item));
    } catch (problem) {
      fill(body, problemBox(problem));
    }
    if (openItem === params.item && !dialog.open) dialog.showModal();
  }

  function about(item) {
    const title = String(item.title);
    const kinds = Object.fromEntries(shop.catalogue.columns.map((column) => [column.name, column.kind]));
    const rows = Object.entries(item).filter(([name, value]) => !IN_HEADER.has(name) && value !== null && value !== "");
    return [
      el("div", { class: "shot" }, pictureOf(item)),
      el("div", { class: "item-text" },
        el("h2", { dir: "auto" }, title),
        el("p", { class: "facts", dir: "auto" }, facts(item)),
        offerLine(item),
        el("dl", {}, rows.map(([name, value]) => [el("dt", {}, heading(name)), el("dd", { dir: "auto" }, formatValue(value, kinds[name]))])),
        el("button", { type: "button", class: "button strong", on: { click: () => state.set({ q: title, view: "search", item: "", k: PAGE }) } },
          "Search for more like it")),
    ];
  }
  return { update };
}

function formatValue(value, kind) {
  if (Array.isArray(value) && typeof value[0] === "string") return value.map((one) => formatValue(one, kind)).join(", ");
  if (kind === "path") return steps(value).join(" › ");
  if (typeof value === "number") return count(value);
  if (typeof value === "boolean") return value ? "yes" : "no";
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return /^\d{4}-\d\d-\d\dT/.test(text) ? text.slice(0, 10) : text;
}
