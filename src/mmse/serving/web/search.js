/** The search view: filters at the side, hits as cards, and what to do when there are none. */

import * as api from "./api.js";
import { card, moveAmong } from "./card.js";
import { chips } from "./chips.js";
import { controls, sortPicker } from "./controls.js";
import { el, fill, icon } from "./dom.js";
import { filterPanel } from "./filters.js";
import { hits, milliseconds } from "./format.js";
import { noMatch, notices } from "./notices.js";
import { legend } from "./parts.js";
import { problemBox } from "./problem.js";
import { countedApart, countedAtOnce, searchOf } from "./requests.js";
import { MAX_K, PAGE } from "./state.js";
import { welcome } from "./welcome.js";

const NARROW = matchMedia("(max-width: 900px)");

/** The view; `update` asks the server where the state now asks for something else. */
export function searchView(shop) {
  const { state } = shop;
  const columns = shop.catalogue.columns;
  const ask = api.latestOnly(shop.busy);
  const settings = controls(shop);
  const order = sortPicker(columns, (sort) => state.set({ sort, k: PAGE }));
  const filters = filterPanel(shop);
  const panel = el("div", { class: "panel" }, settings.node, filters.node);
  const side = el("aside", { class: "side", "aria-label": "Ranking and filters" });
  const drawer = drawerOf();
  const opener = el("button", { type: "button", class: "button opener", on: { click: () => drawer.showModal() } },
    icon("M3 6h14M6 10h8M8.5 14h3"), el("span", {}, "Filters"));
  const line = el("p", { class: "line" });
  const parts = el("div", { class: "legend-slot" });
  const active = el("div", { class: "chips-slot" });
  const messages = el("div", { class: "told" });
  const list = el("ol", { class: "cards", "aria-label": "Hits", on: { keydown: moveAmong } });
  const moreButton = el("button", { type: "button", class: "button more", on: { click: showMore } }, "Show more");
  const results = el("section", { class: "found" },
    el("div", { class: "bar" }, line, order.node, opener), active, messages, parts, list, moreButton);
  const start = welcome(shop);
  const body = el("div", { class: "searching" }, side, results);
  const node = el("div", { class: "view" });
  let latest = { key: null, ids: [], columns: [] };
  moreButton.hidden = true;
  place();
  NARROW.addEventListener("change", place);

  function place() {
    if (!NARROW.matches && drawer.open) drawer.close();
    (NARROW.matches ? drawer.querySelector(".drawer-body") : side).append(panel);
  }

  function showMore() {
    state.set({ k: Math.min(state.now.k + PAGE, MAX_K) }, { quietly: true });
  }

  async function update(params) {
    if (!params.q) {
      latest = { key: null, ids: [], columns: [] };
      ask(async () => null);
      fill(node, start.node);
      return;
    }
    if (body.parentNode !== node) fill(node, body, drawer);
    settings.update(params);
    order.update(params.sort);
    fill(active, chips(shop, params));
    const request = searchOf(params, columns, { facets: countedAtOnce(params, columns) });
    const key = JSON.stringify(request);
    if (key === latest.key) return;
    latest.key = key;
    results.setAttribute("aria-busy", "true");
    try {
      const answers = await ask((signal) => bothAnswers(request, countedApart(params, columns), signal));
      if (!answers) return;
      draw(params, ...answers);
    } catch (problem) {
      latest.key = null;
      if (!(problem instanceof api.Problem)) console.error(problem);
      fill(messages, problemBox(problem, () => update(state.now)));
      if (!list.children.length) moreButton.hidden = true;
      results.classList.add("stale");
    }
    results.removeAttribute("aria-busy");
  }

  function draw(params, answer, counts) {
    results.classList.remove("stale");
    const edits = answer.catalogue ? [`, ${answer.catalogue} edits`] : [];
    fill(line, el("strong", {}, hits(answer.hits.length)), ` in ${milliseconds(answer.took_ms)}, version `,
      el("span", { dir: "auto" }, answer.version), edits);
    shop.say(answer.no_good_match ? "No good match." : `${hits(answer.hits.length)} for ${params.q.slice(0, 80)}`);
    fill(messages, notices(shop, params, answer), answer.hits.length ? null : noMatch(shop, params));
    const ids = answer.hits.map((hit) => hit.item_id);
    const grows = ids.length > latest.ids.length && latest.ids.length > 0 && latest.ids.every((id, rank) => ids[rank] === id);
    const cards = answer.hits.slice(grows ? latest.ids.length : 0).map((hit) => card(shop, hit));
    if (grows) list.append(...cards);
    else fill(list, cards);
    if (grows && document.activeElement === moreButton) cards[0].querySelector(".title").focus();
    latest.ids = ids;
    fill(parts, answer.hits.length ? legend(answer.hits) : null);
    moreButton.hidden = answer.hits.length < params.k || params.k >= MAX_K;
    filters.update(params, counts);
  }
  return { node, update };
}

async function bothAnswers(request, extraSearches, signal) {
  const [answer, batch] = await Promise.all([
    api.search(request, signal),
    extraSearches.length ? api.batch(extraSearches, signal) : { outcomes: [] },
  ]);
  const counts = [answer, ...batch.outcomes.map((outcome) => outcome.answer)].flatMap((result) => result?.facets ?? []);
  return [answer, counts];
}

function drawerOf() {
  const drawer = el("dialog", { class: "drawer", "aria-label": "Ranking and filters" },
    el("form", { method: "dialog", class: "drawer-head" },
      el("h2", {}, "Ranking and filters"),
      el("button", { class: "round", "aria-label": "Close" }, icon("M5 5l10 10M15 5 5 15"))),
    el("div", { class: "drawer-body" }),
    el("form", { method: "dialog", class: "drawer-foot" }, el("button", { class: "button strong" }, "Show the hits")));
  drawer.addEventListener("click", (event) => {
    if (event.target === drawer) drawer.close();
  });
  return drawer;
}
