/** What stands above the hits: what rules did to the search, and what to try where there is no good match. */

import { el } from "./dom.js";
import { heading, percent } from "./format.js";
import { PAGE } from "./state.js";

const STEPS = [0.3, 0.2, 0.1, 0.05, 0.02];

/** What became of the query: another spelling, what rules did, values that no item has. */
export function notices({ state }, params, answer) {
  const leads = answer.redirect_url;
  const safe = leads !== null && /^(https?:\/\/|\/(?!\/))/i.test(leads);
  return [
    answer.notes.map((note) => el("p", { class: "notice", dir: "auto" }, note)),
    leads !== null && el("p", { class: "notice" }, "A rule sends this query to ",
      safe ? el("a", { href: leads, rel: "noopener noreferrer" }, leads) : el("span", { dir: "auto" }, leads), "."),
    answer.corrected_from !== null && el("p", { class: "notice" }, "Results for “", el("bdi", { class: "rule" }, answer.query), "”. ",
      el("a", { href: state.link({ written: params.q }), on: { click: (event) => {
        event.preventDefault();
        state.set({ written: params.q, k: PAGE });
      } } }, "Search for “", el("bdi", {}, params.q), "” instead")),
    answer.corrected_from === null && answer.query !== params.q && el("p", { class: "notice" }, "Searched for “", el("bdi", {}, answer.query), "”, as a rule says."),
    answer.rules.length > 0 && el("p", { class: "notice" }, answer.rules.length > 1 ? "Rules at work: " : "Rule at work: ",
      answer.rules.map((rule, place) => [place ? ", " : "", el("bdi", { class: "rule" }, rule)])),
  ];
}

/** What to say and offer where nothing was found. */
export function noMatch({ state, say }, params) {
  const columns = Object.keys(params.filter);
  const offers = [];
  const offer = (text, changes) => offers.push(el("button", { type: "button", class: "button", on: { click: () => {
    state.set({ ...changes, k: PAGE });
    document.getElementById("main").focus();
    say("");
  } } }, text));
  if (params.min) {
    const lower = STEPS.find((step) => step < params.min - 1e-9);
    if (lower) offer(`Allow hits from ${percent(lower)} on`, { min: lower });
    offer("No cut-off", { min: 0 });
  }
  for (const column of columns) {
    const { [column]: _, ...otherFilters } = params.filter;
    offer(`Any ${heading(column).toLowerCase()}`, { filter: otherFilters });
  }
  if (columns.length > 1) offer("Clear all filters", { filter: {} });
  if (params.channel === "lexical") offer("Search by meaning too", { channel: "hybrid" });
  const reason = params.min && columns.length ? `Nothing that passes the filters is at least ${percent(params.min)} likely to be wanted.`
    : params.min ? `Nothing in the catalogue is at least ${percent(params.min)} likely to be wanted.`
    : columns.length ? "Nothing passes all of these filters."
    : params.channel === "lexical" ? "No item has these words." : "Nothing in the catalogue is likely enough to be wanted. Try other words.";
  return el("section", { class: "nothing" },
    el("h2", {}, "No good match"),
    el("p", {}, reason, offers.length ? " You can loosen what was asked:" : ""),
    offers.length > 0 && el("div", { class: "offers" }, offers));
}

/** What a view shows that needs a query and has none: what it is for, and queries to begin with. */
export function noQuery({ state, catalogue }, title, text) {
  return el("section", { class: "nothing" }, el("h1", {}, title), el("p", {}, text),
    el("div", { class: "offers" }, catalogue.examples.slice(0, 6).map((query) =>
      el("button", { type: "button", class: "button", on: { click: () => state.set({ q: query, k: PAGE }) } }, el("bdi", {}, query)))));
}
