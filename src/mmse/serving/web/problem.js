/** What is shown when something went wrong: the cause, the cure, and what to tell whoever looks after the server. */

import { el } from "./dom.js";

/** A box for `problem`; `again` is called by its button. */
export function problemBox(problem, retry = null) {
  const isProblem = problem.cure !== undefined;
  const message = isProblem ? problem.message : "This page made a mistake.";
  const cure = isProblem ? problem.cure : `Load it again; if that does not help, report this: ${problem.message}`;
  const wait = problem.retryAfter_s ? `The server asks to wait ${problem.retryAfter_s} s. ` : "";
  return el("section", { class: "problem", role: "alert" },
    el("h2", {}, message),
    el("p", {}, wait, ...withCode(cure)),
    el("p", { class: "small" }, [problem.code, problem.request_id && `request ${problem.request_id}`].filter(Boolean).join(" · ")),
    retry && el("button", { type: "button", class: "button", on: { click: retry } }, "Try again"));
}

/** Text with what stands in backticks as code. */
export function withCode(text) {
  return String(text).split("`").map((part, place) => (place % 2 ? el("code", {}, part) : part));
}
