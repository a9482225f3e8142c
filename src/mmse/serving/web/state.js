/** What is asked and shown, kept in the address: back and forward work, and a link can be shared. */

export const CHANNELS = { hybrid: "Hybrid", vector: "Vectors", lexical: "Words", rrf: "Ranks" };
export const PAGE = 24;
export const MAX_K = 1000;
const VIEWS = ["search", "compare", "map"];
const SIDES = { a: { version: "", channel: "hybrid", min: 0 }, b: { version: "", channel: "lexical", min: 0 } };

/**
 * The state that an address says. `written` is a query that is not to be corrected. `filter` has for each column a list of values, or {from, to}; `a` and `b` are the
 * sides of the comparison. What is missing or makes no sense is as on a fresh page.
 */
export function parse(search) {
  const params = new URLSearchParams(search);
  return {
    q: params.get("q") ?? "",
    view: oneOf(VIEWS, params.get("view")),
    k: parseCount(params.get("k"), PAGE, MAX_K),
    user: params.get("user") ?? "",
    version: params.get("version") ?? "",
    channel: oneOf(Object.keys(CHANNELS), params.get("channel")),
    min: share(params.get("min")),
    sort: params.get("sort") ?? "",
    written: params.get("written") ?? "",
    item: params.get("item") ?? "",
    top: parseCount(params.get("top"), 10, 50),
    filter: filterFrom(params),
    a: sideFrom(params, "a"),
    b: sideFrom(params, "b"),
  };
}

/** The address of a state; what is as on a fresh page is left out. */
export function serialise(state) {
  const params = new URLSearchParams();
  const add = (name, value, fallback) => {
    if (value !== fallback) params.append(name, value);
  };
  add("q", state.q, "");
  add("view", state.view, "search");
  add("k", state.k, PAGE);
  add("user", state.user, "");
  add("version", state.version, "");
  add("channel", state.channel, "hybrid");
  add("min", state.min, 0);
  add("sort", state.sort, "");
  add("written", state.written, "");
  add("top", state.top, 10);
  for (const [column, condition] of Object.entries(state.filter)) {
    if (Array.isArray(condition)) for (const value of condition) params.append(`f.${column}`, value);
    else params.append(`r.${column}`, `${condition.from ?? ""}..${condition.to ?? ""}`);
  }
  for (const side of ["a", "b"])
    for (const [name, fallback] of Object.entries(SIDES[side])) add(`${side}.${name}`, state[side][name], fallback);
  add("item", state.item, "");
  const text = params.toString();
  return text ? `?${text}` : "";
}

/** The state of the page and who wants to hear of its changes. */
export class State {
  #listeners = [];
  #typing = false;

  constructor() {
    this.now = parse(location.search);
    addEventListener("popstate", () => {
      this.#typing = false;
      this.now = parse(location.search);
      this.#tell();
    });
  }

  /** Calls `act` with the state at every change. */
  listen(act) {
    this.#listeners.push(act);
  }

  /** Changes some of the state. `quietly` adds no step to the history; neither do letters typed one after another. */
  set(changes, { quietly = false, typing = false } = {}) {
    const oldAddress = serialise(this.now);
    this.now = { ...this.now, ...changes };
    const newAddress = serialise(this.now);
    if (newAddress !== oldAddress) {
      const keeps = quietly || (typing && this.#typing);
      history[keeps ? "replaceState" : "pushState"](null, "", newAddress || location.pathname);
      if (!quietly) this.#typing = typing;
    }
    this.#tell();
  }

  /** The next letters typed are a new step of the history. */
  settle() {
    this.#typing = false;
  }

  /** Keeps only hits whose `column` is as `only` says; null or an empty list lets all through. */
  filterBy(column, condition) {
    const filter = { ...this.now.filter };
    const isEmpty = condition === null || (Array.isArray(condition) ? condition.length === 0 : condition.from === null && condition.to === null);
    if (isEmpty) delete filter[column];
    else filter[column] = condition;
    this.set({ filter, k: PAGE });
  }

  /** The address that the page would have with `changes`. */
  link(changes) {
    return serialise({ ...this.now, item: "", ...changes }) || "./";
  }

  #tell() {
    for (const act of this.#listeners) act(this.now);
  }
}

function filterFrom(params) {
  const filter = {};
  for (const [name, value] of params) {
    const column = name.slice(2);
    if (name.startsWith("f.") && column) (filter[column] ??= []).push(value);
    else if (name.startsWith("r.") && column) {
      const [from, to] = value.split("..").map((end) => (end === "" || !Number.isFinite(Number(end)) ? null : Number(end)));
      if (from !== null || (to ?? null) !== null) filter[column] = { from, to: to ?? null };
    }
  }
  return filter;
}

function sideFrom(params, side) {
  return {
    version: params.get(`${side}.version`) ?? "",
    channel: oneOf(Object.keys(CHANNELS), params.get(`${side}.channel`), SIDES[side].channel),
    min: share(params.get(`${side}.min`)),
  };
}

function oneOf(options, value, fallback = options[0]) {
  return options.includes(value) ? value : fallback;
}

function parseCount(text, fallback, maximum) {
  const value = Number(text);
  return text && Number.isInteger(value) && value > 0 ? Math.min(value, maximum) : fallback;
}

function share(text) {
  const value = Number(text);
  return value > 0 && value <= 1 ? value : 0;
}
