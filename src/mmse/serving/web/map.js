/** The map: all items at their places, names of regions, and where the query and its hits belong. */

import * as api from "./api.js";
import { paint, paletteOf } from "./map_canvas.js";
import { Camera } from "./camera.js";
import { chance } from "./card.js";
import { el, fill, icon } from "./dom.js";
import { count, heading, hits as hitsSaid } from "./format.js";
import { moveMap } from "./moving.js";
import { gridOf } from "./nearest.js";
import { problemBox, withCode } from "./problem.js";
import { searchOf } from "./requests.js";
import { onScheme } from "./scheme.js";
import { PAGE } from "./state.js";

/** The view; the map of a version is fetched once. */
export function mapView(shop) {
  const { state } = shop;
  const columns = shop.catalogue.columns;
  const askMap = api.latestOnly(shop.busy);
  const askHits = api.latestOnly(shop.busy);
  const canvas = el("canvas", { tabindex: 0, role: "application",
    "aria-label": "Map of the catalogue. Arrow keys move, plus and minus zoom, 0 shows all, Enter opens the item in the middle. The hits are also in the list beside it." });
  const tip = el("p", { class: "tip", hidden: true, dir: "auto" });
  const zoom = (factor) => () => {
    camera.zoomAt(factor);
    draw();
  };
  const buttons = el("div", { class: "zoom" },
    el("button", { type: "button", class: "round", "aria-label": "Zoom in", on: { click: zoom(1.6) } }, icon("M10 4v12M4 10h12")),
    el("button", { type: "button", class: "round", "aria-label": "Zoom out", on: { click: zoom(1 / 1.6) } }, icon("M4 10h12")),
    el("button", { type: "button", class: "round", "aria-label": "Show all", on: { click: () => {
      camera.look(0, 0, 1);
      draw();
    } } }, icon("M4 8V4h4M16 8V4h-4M4 12v4h4M16 12v4h-4")));
  const stage = el("div", { class: "stage" }, canvas, tip, buttons);
  const hitList = el("ol", { class: "near" });
  const nearHead = el("h2", {}, "Hits on the map");
  const line = el("p", { class: "line" });
  const key = el("ul", { class: "map-key", role: "list", "aria-label": "Categories; press one to hide or show it" });
  const messages = el("div", { class: "told" });
  const aside = el("aside", { class: "map-side", "aria-label": "Hits and categories" }, nearHead, line, messages, hitList, el("h2", {}, "Categories"), key);
  const body = el("div", { class: "mapping" }, stage, aside);
  const node = el("div", { class: "view" });
  const camera = new Camera();
  const scene = { map: null, camera, colours: null, hits: new Map(), place: null, muted: new Set(), pointed: -1, family: "sans-serif" };
  let [grid, byId, loadedVersion, lastKey, drawing] = [null, new Map(), null, null, 0];

  const context = canvas.getContext("2d");
  const watcher = new ResizeObserver(() => fit());
  watcher.observe(canvas);
  onScheme(() => {
    if (!scene.map) return;
    recolour();
    draw();
  });
  moveMap(canvas, camera, { draw, point, open, tell });

  function fit() {
    const box = canvas.getBoundingClientRect();
    const ratio = Math.min(devicePixelRatio || 1, 2);
    if (!box.width || !box.height) return;
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    camera.resize(box.width, box.height);
    draw();
  }

  function draw() {
    if (!scene.map || drawing) return;
    drawing = requestAnimationFrame(() => {
      drawing = 0;
      paint(context, scene);
    });
  }

  function recolour() {
    scene.colours = paletteOf(scene.map.categories, stage);
    scene.family = getComputedStyle(document.body).fontFamily;
    const counts = scene.map.categories.map(() => 0);
    for (const category of scene.map.category) counts[category] += 1;
    fill(key, scene.map.categories.map((name, at) => el("li", { hidden: !counts[at] }, el("button", {
      type: "button", class: "swatch", "aria-pressed": String(!scene.muted.has(at)),
      vars: { "--hue": scene.colours.points[at] }, on: { click: () => mute(at) },
    }, el("bdi", {}, heading(name)), el("span", { class: "count" }, count(counts[at]))))));
  }

  function mute(category) {
    if (!scene.muted.delete(category)) scene.muted.add(category);
    key.children[category].firstChild.setAttribute("aria-pressed", String(!scene.muted.has(category)));
    draw();
  }

  /** Points at the item nearest to a place of the screen; gives its index or -1. */
  function point(px, py, reach_px = 14) {
    if (!grid) return -1;
    const [x, y] = camera.toMap(px, py);
    const visible = (at) => !scene.muted.has(scene.map.category[at]);
    const index = hitAt(px, py) ?? grid.nearest(x, y, reach_px / camera.scale, visible);
    if (index !== scene.pointed) {
      scene.pointed = index;
      tip.hidden = index < 0;
      canvas.classList.toggle("pointing", index >= 0);
      draw();
    }
    if (index >= 0) {
      const [left, top] = camera.toScreen(scene.map.x[index], scene.map.y[index]);
      fill(tip, el("strong", {}, scene.map.title[index]), el("span", {}, scene.map.categories[scene.map.category[index]]));
      tip.style.setProperty("--x", `${Math.min(Math.max(left, 100), camera.width - 100)}px`);
      tip.style.setProperty("--y", `${top}px`);
      tip.classList.toggle("under", top < 90);
    }
    return index;
  }

  function hitAt(px, py) {
    for (const [at] of scene.hits) {
      const [x, y] = camera.toScreen(scene.map.x[at], scene.map.y[at]);
      if (Math.hypot(x - px, y - py) < 10) return at;
    }
    return null;
  }

  function open(at) {
    if (at >= 0) state.set({ item: scene.map.item_id[at] });
  }

  function tell(at) {
    shop.say(at < 0 ? "No item here." : `${scene.map.title[at]}, ${scene.map.categories[scene.map.category[at]]}`);
  }

  async function update(params) {
    await Promise.all([loadMap(params.version), findHits(params)]);
  }

  async function loadMap(version) {
    if (loadedVersion === version) return;
    loadedVersion = version;
    if (!scene.map) fill(node, el("p", { class: "plain small" }, "Fetching the map …"));
    try {
      const map = await askMap((signal) => api.wholeMap(version, signal));
      if (!map) return;
      scene.map = map;
      grid = gridOf(map.x, map.y);
      byId = new Map(map.item_id.map((id, at) => [id, at]));
      fill(node, body);
      recolour();
      fit();
      lastKey = null;
      await findHits(state.now);
    } catch (problem) {
      if (problem.code !== "not_found") loadedVersion = null;
      scene.map = null;
      fill(node, problem.code === "not_found" ? noMap(problem) : el("div", { class: "plain" }, problemBox(problem, () => update(state.now))));
    }
  }

  async function findHits(params) {
    if (!scene.map) return;
    const request = searchOf({ ...params, sort: "" }, columns, { k: PAGE, explain: false });
    const requestKey = params.q ? JSON.stringify(request) : "";
    if (requestKey === lastKey) return;
    lastKey = requestKey;
    fill(messages);
    if (!params.q) {
      askHits(async () => null);
      show(params, [], null);
      return;
    }
    try {
      const answers = await askHits((signal) => Promise.all([api.search(request, signal), api.mapPlace(params.q, params.version, signal)]));
      if (answers) show(params, answers[0].hits, answers[1]);
    } catch (problem) {
      lastKey = null;
      if (!(problem instanceof api.Problem)) console.error(problem);
      fill(messages, problemBox(problem, () => update(state.now)));
    }
  }

  function show(params, hitItems, place) {
    scene.place = place;
    scene.hits = new Map(hitItems.filter((hit) => byId.has(hit.item_id)).map((hit) => [byId.get(hit.item_id), hit.rank]));
    scene.pointed = -1;
    tip.hidden = true;
    const nDrawn = scene.hits.size;
    fill(line, params.q ? `${hitsSaid(hitItems.length)}, ${nDrawn === hitItems.length ? "all" : count(nDrawn)} of them drawn. The dashed ring is where the query belongs.`
      : `${count(scene.map.item_id.length)} items are drawn; what is alike lies close together. Search to see where a query belongs.`);
    nearHead.textContent = params.q ? "Hits on the map" : "The catalogue as a map";
    fill(hitList, hitItems.map((hit) => nearRow(hit)));
    if (place) focusOn(hitItems, place);
    draw();
  }

  function nearRow(hit) {
    const at = byId.get(hit.item_id) ?? -1;
    return el("li", {}, el("span", { class: "rank" }, hit.rank),
      el("button", { type: "button", class: "title", dir: "auto", on: {
        click: () => state.set({ item: hit.item_id }),
        focus: () => showItem(at), pointerenter: () => showItem(at),
      } }, hit.title),
      at < 0 ? el("p", { class: "small" }, "not drawn") : hit.probability !== null && chance(hit));
  }

  function showItem(at) {
    if (at < 0) return;
    const [x, y] = camera.toScreen(scene.map.x[at], scene.map.y[at]);
    if (x < 20 || y < 20 || x > camera.width - 20 || y > camera.height - 20) camera.look(scene.map.x[at], scene.map.y[at]);
    point(...camera.toScreen(scene.map.x[at], scene.map.y[at]), 3);
    draw();
  }

  /** Moves so that the query's place and most of its hits are seen. */
  function focusOn(hitItems, place) {
    const reach = hitItems.map((hit) => byId.get(hit.item_id)).filter((at) => at !== undefined)
      .map((at) => Math.hypot(scene.map.x[at] - place.x, scene.map.y[at] - place.y)).sort((a, b) => a - b);
    const radius = Math.max(reach[Math.floor(reach.length * 0.8)] ?? 0, place.spread, 0.06);
    camera.look(place.x, place.y, Math.min(0.62 / radius, 1.9));
  }
  return { node, update };
}

function noMap(problem) {
  return el("section", { class: "nothing" },
    el("h1", {}, "There is no map of this version"),
    el("p", {}, withCode(problem.message)),
    el("p", {}, withCode(problem.cure)));
}
