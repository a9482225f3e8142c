/** The calls that the page makes, and what went wrong with them in the server's own words. */

/** What went wrong: `message` says the cause, `cure` what to do. */
export class Problem extends Error {
  constructor({ code, message, cure, request_id = null }, retryAfter_s = null) {
    super(message);
    Object.assign(this, { code, cure, request_id, retryAfter_s });
  }
}

export const catalogue = (signal) => call("v1/catalogue", { signal });
export const versions = (signal) => call("v1/versions", { signal });
export const item = (id, signal) => call(`v1/items/${encodeURIComponent(id)}`, { signal });
export const search = (request, signal) => call("v1/search", posted(request, signal));
export const batch = (searches, signal) => call("v1/search/batch", posted({ searches }, signal));
export const wholeMap = (version, signal) => call(`v1/map${asked({ version })}`, { signal });
export const mapPlace = (q, version, signal) => call(`v1/map/place${asked({ q, version })}`, { signal });

/**
 * Runs one call at a time: a newer one aborts the one before, which then gives null.
 * `busy` is told when calls begin and end.
 */
export function latestOnly(busy = () => {}) {
  let running = null;
  return async (act) => {
    running?.abort();
    const mine = new AbortController();
    running = mine;
    busy(true);
    try {
      const answer = await act(mine.signal);
      return running === mine ? answer : null;
    } catch (problem) {
      if (running !== mine || mine.signal.aborted) return null;
      throw problem;
    } finally {
      if (running === mine) busy(false);
    }
  };
}

function posted(body, signal) {
  return { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
}

function asked(said) {
  const given = Object.entries(said).filter(([, value]) => value);
  return given.length ? `?${new URLSearchParams(given)}` : "";
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
  const said = await response.json().catch((cause) => {
    if (cause.name === "AbortError") throw cause;
    return null;
  });
  if (response.ok && said !== null) return said;
  throw new Problem(
    said?.error ?? {
      code: `http_${response.status}`,
      message: `The server answered ${response.status} with something that is not of this API.`,
      cure: "See whether something else stands between this page and `mmse serve`, such as a proxy.",
    },
    Number(response.headers.get("Retry-After")) || null,
  );
}
