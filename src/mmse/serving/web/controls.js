/** How hits are found: the channel, the cut-off, the shopper and the version. */

import { debounced, el, fill, freshId } from "./dom.js";
import { heading, likelihood, percent } from "./format.js";
import { CHANNELS, PAGE } from "./state.js";

const CUTS = [0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.08, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.75, 0.9];
const MEANS = {
  hybrid: "Meaning and exact words under one learned score.",
  vector: "Meaning alone: what is alike.",
  lexical: "Exact words alone, ranked by BM25.",
  rrf: "Both lists merged by rank alone.",
};

/** The controls of the search view. */
export function controls({ state, versions }) {
  const channel = channelPicker((name) => state.set({ channel: name, k: PAGE }));
  const cutoff = cutSlider((min) => state.set({ min, k: PAGE }));
  const version = versionPicker(versions, (name) => state.set({ version: name, k: PAGE }));
  const id = freshId("shopper");
  const setShopper = debounced((typing) => state.set({ user: shopper.value.trim(), k: PAGE }, { typing }), 300);
  const shopper = el("input", { id, type: "text", autocomplete: "off", spellcheck: "false", placeholder: "nobody in particular",
    maxlength: 1000, dir: "auto", on: { input: () => setShopper(true) } });
  const node = el("section", { class: "controls" },
    el("h2", { class: "quiet" }, "Ranking"), channel.node, cutoff.node,
    el("div", { class: "field" }, el("label", { for: id }, "Shopper (user id)"), shopper),
    versions.served.length > 1 && version.node);
  function update(params) {
    channel.update(params.channel);
    cutoff.update(params.min, params.channel);
    version.update(params.version);
    if (document.activeElement !== shopper) shopper.value = params.user;
  }
  return { node, update };
}

/** One of the channels, as a row of buttons of which one is on. */
export function channelPicker(pick) {
  const name = freshId("channel");
  const means = el("p", { class: "small" });
  const inputs = Object.entries(CHANNELS).map(([value, label]) => {
    const input = el("input", { type: "radio", name, value, on: { change: () => pick(value) } });
    return { value, input, node: el("label", {}, input, el("span", {}, label)) };
  });
  const node = el("fieldset", { class: "field" }, el("legend", {}, "Channel"),
    el("div", { class: "segments" }, inputs.map((option) => option.node)), means);
  function update(channel) {
    for (const { value, input } of inputs) input.checked = value === channel;
    means.textContent = MEANS[channel];
  }
  return { node, update };
}

/** The least probability, on a scale that is finer where probabilities are small. */
export function cutSlider(pick) {
  const id = freshId("cut");
  const output = el("output", { for: id });
  const slider = el("input", { id, type: "range", min: 0, max: CUTS.length - 1, step: 1, on: {
    input: () => tell(CUTS[slider.value]),
    change: () => pick(CUTS[slider.value]),
  } });
  const node = el("div", { class: "field cut" },
    el("div", { class: "between" }, el("label", { for: id }, "At least this likely"), output), slider);
  function tell(min, isEnabled = true) {
    const text = !isEnabled ? "hybrid only" : min ? percent(min) : "any";
    output.textContent = text;
    slider.setAttribute("aria-valuetext", min && isEnabled ? `${text}, ${likelihood(min)}` : text);
    slider.style.setProperty("--filled", slider.value / (CUTS.length - 1));
  }
  function update(min, channel) {
    slider.disabled = channel !== "hybrid";
    const index = CUTS.findIndex((cut) => cut >= min - 1e-9);
    slider.value = index < 0 ? CUTS.length - 1 : index;
    tell(min, channel === "hybrid");
  }
  return { node, update };
}

/** The order of the hits: by relevance, or the relevant ones by a number; null where the catalogue has no number. */
export function sortPicker(columns, pick) {
  const orders = columns.filter(({ kind }) => kind === "number").flatMap(({ name }) => [
    [name, `${heading(name)}: low to high`], [`-${name}`, `${heading(name)}: high to low`],
  ]);
  const id = freshId("sort");
  const select = el("select", { id, on: { change: () => pick(select.value) } },
    [["", "Relevance"], ...orders].map(([value, text]) => el("option", { value }, text)));
  const node = orders.length ? el("div", { class: "sort" }, el("label", { for: id }, "Sort by"), select) : null;
  function update(sort) {
    select.value = sort;
    if (select.selectedIndex < 0) select.value = "";
  }
  return { node, update };
}

/** One of the versions that are served; the empty one is whichever is live. */
export function versionPicker({ served, live }, pick) {
  const id = freshId("version");
  const select = el("select", { id, on: { change: () => pick(select.value) } });
  const node = el("div", { class: "field" }, el("label", { for: id }, "Version"), select);
  function update(version) {
    const names = served.map((version) => [version.version, version.note ? `${version.version} · ${version.note}` : version.version]);
    if (version && !names.some(([name]) => name === version)) names.push([version, version]);
    fill(select, el("option", { value: "" }, live ? `live (${live})` : "live"),
      names.map(([name, text]) => el("option", { value: name }, text)));
    select.value = version;
  }
  return { node, update };
}
