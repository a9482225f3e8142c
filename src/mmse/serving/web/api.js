/** The calls that the page makes, and what went wrong with them in the server's own words. */

/** What went wrong: `message` says the cause, `cure` what to do. */
export class Problem extends Error {
  constructor({ code, message, cure, request_id = null }, retryAfter_s = null) {
    super(message);
    Object.assign(this, { code, cure, request_id, retryAfter_s });
  }
}

export const catalogue = (signal) => call("v1/catalogue", { signal });
export const suggest = (q, k, version, signal) => call(`v1/suggest${queryString({ q, k, version })}`, { signal });
export const versions = (signal) => call("v1/versions", { signal });
export const item = (id, signal) => call(`v1/items/${encodeURIComponent(id)}`, { signal });
export const search = (request, signal) => call("v1/search", postOptions(request, signal));
export const batch = (searches, signal) => call("v1/search/batch", postOptions({ searches }, signal));
export const wholeMap = (version, signal) => call(`v1/map${queryString({ version })}`, { signal });
export const mapPlace = (q, version, signal) => call(`v1/map/place${queryString({ q, version })}`, { signal });

/**
 * Runs one call at a time: a newer one aborts the one before, which then gives null.
 * `busy` is told when calls begin and end.
 */
export function latestOnly(busy = () => {}) {
  let current = null;
  return async (act) => {
    current?.abort();
    const controller = new AbortController();
    current = controller;
    busy(true);
    try {
      const answer = await act(controller.signal);
      return current === controller ? answer : null;
    } catch (problem) {
      if (current !== controller || controller.signal.aborted) return null;
      throw problem;
    } finally {
      if (current === controller) busy(false);
    }
  };
}

function postOptions(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

function queryString(params) {
  const entries = Object.entries(params).filter(([, value]) => value);
  return entries.length ? `?${new URLSearchParams(entries)}` : "";
}

async function call(path, options) {
  let response;
  try {
    response = await fetch(new URL(path, document.baseURI), options);
  } catch (cause) {
    if (cause.name === "AbortError") throw cause;
    throw new Problem({
      code: "unreachable",
      message: "The server did not answer.",
      cure: "See whether `mmse serve` still runs and whether you are online, then try again.",
    });
  }
  const body = await response.json().catch((cause) => {
    if (cause.name === "AbortError") throw cause;
    return null;
  });
  if (response.ok && body !== null) return body;
  throw new Problem(
    body?.error ?? {
      code: `http_${response.status}`,
      message: `The server answered ${response.status} with something that is not of this API.`,
      cure: "See whether something else stands between this page and `mmse serve`, such as a proxy.",
    },
    Number(response.headers.get("Retry-After")) || null,
  );
}
