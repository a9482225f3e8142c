/** What is asked and shown, kept in the address: back and forward work, and a link can be shared. */

export const CHANNELS = { hybrid: "Hybrid", vector: "Vectors", lexical: "Words", rrf: "Ranks" };
export const PAGE = 24;
export const MAX_K = 1000;
const VIEWS = ["search", "compare", "map"];
const SIDES = { a: { version: "", channel: "hybrid", min: 0 }, b: { version: "", channel: "lexical", min: 0 } };

/**
 * The state that an address says. `filter` has for each column a list of values, or {from, to}; `a` and `b` are the
 * sides of the comparison. What is missing or makes no sense is as on a fresh page.
 */
export function parse(search) {
  const said = new URLSearchParams(search);
  return {
    q: said.get("q") ?? "",
    view: oneOf(VIEWS, said.get("view")),
    k: whole(said.get("k"), PAGE, MAX_K),
    user: said.get("user") ?? "",
    version: said.get("version") ?? "",
    channel: oneOf(Object.keys(CHANNELS), said.get("channel")),
    min: share(said.get("min")),
    item: said.get("item") ?? "",
    top: whole(said.get("top"), 10, 50),
    filter: filterFrom(said),
    a: sideFrom(said, "a"),
    b: sideFrom(said, "b"),
  };
}

/** The address of a state; what is as on a fresh page is left out. */
export function serialise(state) {
  const said = new URLSearchParams();
  const add = (name, value, usual) => {
    if (value !== usual) said.append(name, value);
  };
  add("q", state.q, "");
  add("view", state.view, "search");
  add("k", state.k, PAGE);
  add("user", state.user, "");
  add("version", state.version, "");
  add("channel", state.channel, "hybrid");
  add("min", state.min, 0);
  add("top", state.top, 10);
  for (const [column, only] of Object.entries(state.filter)) {
    if (Array.isArray(only)) for (const value of only) said.append(`f.${column}`, value);
    else said.append(`r.${column}`, `${only.from ?? ""}..${only.to ?? ""}`);
  }
  for (const side of ["a", "b"])
    for (const [name, usual] of Object.entries(SIDES[side])) add(`${side}.${name}`, state[side][name], usual);
  add("item", state.item, "");
  const text = said.toString();
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
    const before = serialise(this.now);
    this.now = { ...this.now, ...changes };
    const after = serialise(this.now);
    if (after !== before) {
      const keeps = quietly || (typing && this.#typing);
      history[keeps ? "replaceState" : "pushState"](null, "", after || location.pathname);
      if (!quietly) this.#typing = typing;
    }
    this.#tell();
  }

  /** The next letters typed are a new step of the history. */
  settle() {
    this.#typing = false;
  }

  /** Keeps only hits whose `column` is as `only` says; null or an empty list lets all through. */
  filterBy(column, only) {
    const filter = { ...this.now.filter };
    const none = only === null || (Array.isArray(only) ? only.length === 0 : only.from === null && only.to === null);
    if (none) delete filter[column];
    else filter[column] = only;
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

function filterFrom(said) {
  const filter = {};
  for (const [name, value] of said) {
    const column = name.slice(2);
    if (name.startsWith("f.") && column) (filter[column] ??= []).push(value);
    else if (name.startsWith("r.") && column) {
      const [from, to] = value.split("..").map((end) => (end === "" || !Number.isFinite(Number(end)) ? null : Number(end)));
      if (from !== null || (to ?? null) !== null) filter[column] = { from, to: to ?? null };
    }
  }
  return filter;
}

function sideFrom(said, side) {
  return {
    version: said.get(`${side}.version`) ?? "",
    channel: oneOf(Object.keys(CHANNELS), said.get(`${side}.channel`), SIDES[side].channel),
    min: share(said.get(`${side}.min`)),
  };
}

function oneOf(known, value, usual = known[0]) {
  return known.includes(value) ? value : usual;
}

function whole(text, usual, most) {
  const value = Number(text);
  return text && Number.isInteger(value) && value > 0 ? Math.min(value, most) : usual;
}

function share(text) {
  const value = Number(text);
  return value > 0 && value <= 1 ? value : 0;
}
