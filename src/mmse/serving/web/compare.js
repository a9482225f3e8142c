/** Side by side: one query put to two versions or channels, and what differs. */

import * as api from "./api.js";
import { chance, facts } from "./card.js";
import { chips } from "./chips.js";
import { channelPicker, cutSlider, versionPicker } from "./controls.js";
import { difference } from "./difference.js";
import { el, fill, freshId, svg } from "./dom.js";
import { milliseconds, percent, price } from "./format.js";
import { noQuery } from "./notices.js";
import { pictureOf } from "./picture.js";
import { problemBox } from "./problem.js";
import { searchOf } from "./requests.js";
import { CHANNELS } from "./state.js";

const TOPS = [10, 20, 50];
const ROW = 84;
const NARROW = matchMedia("(max-width: 900px)");

/** The view; each side is a search of its own, since a batch is of one version. */
export function compareView(shop) {
  const { state } = shop;
  const columns = shop.catalogue.columns;
  const ask = api.latestOnly(shop.busy);
  const sides = { a: sideOf(shop, "a", "Left"), b: sideOf(shop, "b", "Right") };
  const id = freshId("top");
  const top = el("select", { id, on: { change: () => state.set({ top: Number(top.value) }) } },
    TOPS.map((number) => el("option", { value: number }, number)));
  const swap = el("button", { type: "button", class: "button", on: { click: () => state.set({ a: state.now.b, b: state.now.a }) } }, "Swap sides");
  const summary = el("div", { class: "summary" });
  const messages = el("div", { class: "told" });
  const active = el("div", { class: "chips-slot" });
  const threads = svg("svg", { class: "threads", "aria-hidden": "true" });
  const lists = el("div", { class: "pair" }, sides.a.node, el("div", { class: "gutter" }, threads), sides.b.node);
  const body = [
    el("div", { class: "compare-head" }, el("h1", {}, "Side by side"),
      el("div", { class: "compare-tools" }, el("label", { for: id }, "Hits"), top, swap)),
    active, summary, messages, lists,
  ];
  const node = el("div", { class: "view comparing" });
  lists.addEventListener("pointerover", (event) => light(event.target.closest(".row")?.dataset.id));
  lists.addEventListener("pointerleave", () => light(null));
  lists.addEventListener("focusin", (event) => light(event.target.closest(".row")?.dataset.id));
  let lastKey = null;

  function light(id) {
    for (const row of lists.querySelectorAll(".lit")) row.classList.remove("lit");
    if (id) for (const row of lists.querySelectorAll(`[data-id="${CSS.escape(id)}"]`)) row.classList.add("lit");
  }

  async function update(params) {
    if (!params.q) {
      lastKey = null;
      ask(async () => null);
      fill(node, noQuery(shop, "Compare two ways to search", "Search for something: both sides get the same query, and what differs is marked."));
      return;
    }
    if (!lists.isConnected) fill(node, body);
    top.value = TOPS.includes(params.top) ? params.top : 10;
    sides.a.update(params.a);
    sides.b.update(params.b);
    fill(active, chips(shop, { ...params, min: 0 }));
    const searches = [params.a, params.b].map((side) => searchOf({ ...params, ...side, sort: "", k: params.top }, columns));
    const key = JSON.stringify(searches);
    if (key === lastKey) return;
    lastKey = key;
    lists.setAttribute("aria-busy", "true");
    try {
      const outcomes = await ask((signal) => Promise.all(searches.map((search) => outcomeOf(search, signal))));
      if (!outcomes) return;
      draw(outcomes);
    } catch (problem) {
      lastKey = null;
      if (!(problem instanceof api.Problem)) console.error(problem);
      fill(messages, problemBox(problem, () => update(state.now)));
      lists.classList.add("stale");
    }
    lists.removeAttribute("aria-busy");
  }

  function draw([left, right]) {
    lists.classList.remove("stale");
    fill(messages);
    const ids = [left, right].map((outcome) => outcome.answer?.hits.map((hit) => hit.item_id) ?? []);
    const differs = difference(...ids);
    sides.a.draw(left, differs.places, "left");
    sides.b.draw(right, differs.places, "right");
    const isComplete = left.answer && right.answer;
    fill(summary, isComplete ? summaryOf(differs, ids) : null);
    if (isComplete) shop.say(`${differs.both} items on both sides of ${Math.max(ids[0].length, ids[1].length)}`);
    thread(differs.places, Math.max(ids[0].length, ids[1].length));
  }

  function thread(ranks, rows) {
    threads.setAttribute("viewBox", `0 0 100 ${rows * ROW}`);
    threads.setAttribute("preserveAspectRatio", "none");
    const middle = (rank) => (rank - 0.5) * ROW;
    fill(threads, [...ranks].filter(([, at]) => at.left && at.right).map(([id, at]) => svg("path", {
      "data-id": id, class: at.left === at.right ? "level" : at.left > at.right ? "up" : "down",
      d: `M0 ${middle(at.left)}C50 ${middle(at.left)} 50 ${middle(at.right)} 100 ${middle(at.right)}`,
    })));
    threads.style.setProperty("--rows", rows);
  }
  return { node, update };
}

/** The answer to a search, or what was wrong with it alone; no answer of the server is a failure of both sides. */
async function outcomeOf(search, signal) {
  try {
    return { answer: await api.search(search, signal), error: null };
  } catch (problem) {
    if (problem instanceof api.Problem && problem.code !== "unreachable") return { answer: null, error: problem };
    throw problem;
  }
}

/** One side: its settings and its hits. */
function sideOf({ state, versions }, name, label) {
  const change = (changes) => state.set({ [name]: { ...state.now[name], ...changes } });
  const channel = channelPicker((value) => change({ channel: value }));
  const cutoff = cutSlider((value) => change({ min: value }));
  const version = versionPicker(versions, (value) => change({ version: value }));
  const line = el("p", { class: "line" });
  const list = el("ol", { class: "rows", "aria-label": `${label}: hits` });
  const choice = el("span", { class: "small" });
  const node = el("section", { class: `side-${name}`, "aria-label": label },
    el("details", { class: "side-settings", open: !NARROW.matches },
      el("summary", {}, label, choice),
      el("div", { class: "side-form" }, channel.node, el("div", { class: "two" }, version.node, cutoff.node), line)), list);

  function update(side) {
    choice.textContent = [CHANNELS[side.channel], side.version || "live", side.min && side.channel === "hybrid" && `from ${percent(side.min)}`].filter(Boolean).join(" · ");
    channel.update(side.channel);
    cutoff.update(side.min, side.channel);
    version.update(side.version);
  }

  function draw({ answer, error }, ranks, side) {
    if (error) {
      fill(line);
      fill(list, el("li", { class: "wrong" }, problemBox(error)));
      return;
    }
    fill(line, `${answer.hits.length} hits in ${milliseconds(answer.took_ms)}, version ${answer.version}`);
    fill(list, answer.hits.length ? answer.hits.map((hit) => row(state, hit, markOf(ranks.get(hit.item_id), side)))
      : el("li", { class: "wrong" }, el("p", {}, "No good match on this side.")));
  }
  return { node, update, draw };
}

function row(state, hit, mark) {
  const { item } = hit;
  return el("li", { class: `row ${mark.kind}`, "data-id": hit.item_id },
    el("span", { class: "rank" }, hit.rank),
    el("span", { class: "thumb" }, pictureOf(item)),
    el("div", { class: "row-text" },
      el("h3", { dir: "auto" }, el("button", { type: "button", class: "title", on: { click: () => state.set({ item: hit.item_id }) } }, hit.title)),
      el("p", { class: "facts", dir: "auto" }, facts(item)),
      el("div", { class: "row-foot" }, typeof item.price === "number" && el("span", { class: "price" }, price(item.price, item.currency)),
        hit.probability !== null && chance(hit))),
    el("span", { class: `mark ${mark.kind}` }, mark.text));
}

/** How an item's place differs between the sides, in words. */
function markOf({ left, right }, side) {
  if (left === null || right === null) return { kind: "only", text: "only here" };
  if (left === right) return { kind: "level", text: "same place" };
  const rises = side === "right" ? left - right : right - left;
  return rises > 0 ? { kind: "up", text: `▲ ${rises} higher` } : { kind: "down", text: `▼ ${-rises} lower` };
}

function summaryOf({ both: nShared, agreement, same: nSame }, [left, right]) {
  const length = Math.max(left.length, right.length);
  const figure = (number, text) => el("p", { class: "figure" }, el("strong", {}, number), " ", text);
  return [
    figure(length ? percent(nShared / length) : "–", `overlap@${length}: ${nShared} of ${length} on both sides`),
    figure(agreement === null ? "–" : agreement.toFixed(2).replace("-", "−"), "rank agreement of those (Kendall’s τ)"),
    figure(String(nSame), nSame === 1 ? "stands in the same place" : "stand in the same place"),
    figure(String(left.length + right.length - 2 * nShared), "only on one side"),
  ];
}
