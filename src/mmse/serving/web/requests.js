/** The bodies of searches: the state of the page in the words of the API. */

const MAX_FACETS = 16;

/** The search that `state` asks for. `columns` are those of the catalogue, `with_` changes some fields. */
export function searchOf(state, columns, with_ = {}) {
  const body = { query: state.q, k: state.k, channel: state.channel, explain: true };
  if (state.user) body.user_id = state.user;
  if (state.version) body.version = state.version;
  if (state.written && state.written === state.q) body.correct = false;
  if (state.sort) body.sort = state.sort;
  if (state.min && state.channel === "hybrid") body.min_probability = state.min;
  const filter = filterOf(state.filter, columns);
  if (filter) body.filter = filter;
  return { ...body, ...with_ };
}

/** The columns that one search can count: those that are not filtered by. */
export function countedAtOnce(state, columns) {
  return columns.map((column) => column.name).filter((name) => !(name in state.filter)).slice(0, MAX_FACETS);
}

/**
 * A search for each column that is filtered by, without its own filter: a column's counts say what else could be
 * chosen there, so its own choice must not shrink them.
 */
export function countedApart(state, columns) {
  return columns
    .filter(({ name }) => name in state.filter)
    .map(({ name }) => {
      const { [name]: _, ...otherFilters } = state.filter;
      return { ...searchOf({ ...state, filter: otherFilters, k: 1 }, columns), explain: false, facets: [name] };
    });
}

/** The filter in the API's words, or null where everything is let through. */
export function filterOf(filter, columns) {
  const kinds = Object.fromEntries(columns.map(({ name, kind }) => [name, kind]));
  const conditions = {};
  for (const [column, condition] of Object.entries(filter)) {
    if (Array.isArray(condition)) conditions[column] = kinds[column] === "flag" ? condition.map((value) => value === "true") : condition;
    else conditions[column] = Object.fromEntries(Object.entries(condition).filter(([, end]) => end !== null));
  }
  return Object.keys(conditions).length ? conditions : null;
}
