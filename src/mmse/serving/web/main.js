/** The page: reads the address, shows the view it names, and keeps both in step. */

import * as api from "./api.js";
import { compareView } from "./compare.js";
import { el, fill } from "./dom.js";
import { header } from "./header.js";
import { itemDialog } from "./item.js";
import { mapView } from "./map.js";
import { problemBox } from "./problem.js";
import { searchView } from "./search.js";
import { State } from "./state.js";

const main = document.getElementById("main");
const state = new State();
const announcer = document.getElementById("said");

/** What every view is given: the state, what can be asked of the catalogue, and how to speak to a screen reader. */
const shop = {
  state,
  catalogue: { items: 0, columns: [], examples: [] },
  versions: { live: "", served: [] },
  say: (text) => {
    announcer.textContent = text;
  },
  busy: (is) => document.body.classList.toggle("waiting", is),
};
const top = header(shop);
const dialog = itemDialog(shop);
const views = {};
let currentView = "";

function show(params) {
  top.update(params);
  dialog.update(params);
  views[params.view] ??= { search: searchView, compare: compareView, map: mapView }[params.view](shop);
  if (currentView !== params.view) {
    views[currentView]?.leave?.();
    currentView = params.view;
    fill(main, views[params.view].node);
    document.body.dataset.view = params.view;
  }
  document.title = params.q ? `${params.q.slice(0, 60)} · Search` : "Search";
  views[params.view].update(params);
}

async function start() {
  fill(main);
  shop.busy(true);
  try {
    [shop.catalogue, shop.versions] = await Promise.all([api.catalogue(), api.versions()]);
  } catch (problem) {
    fill(main, el("div", { class: "plain" }, problemBox(problem, start)));
    return;
  } finally {
    shop.busy(false);
  }
  state.listen(show);
  show(state.now);
}

start();
