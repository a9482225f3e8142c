/** Why a hit was found: in words, in numbers, and what rules moved. */

import { el } from "./dom.js";
import { partsTable } from "./parts.js";

const WORD = /[\p{L}\p{N}\p{M}]+/gu;

/** A disclosure that explains a hit, or null where the answer does not. */
export function why({ explanation, moved_by }) {
  if (!explanation) return null;
  const [first, ...others] = explanation.reason.split("; ").filter((said) => !moved_by.includes(said));
  return el("details", { class: "why" },
    el("summary", {}, "Why this hit"),
    el("div", { class: "why-body" },
      el("p", { dir: "auto" }, sentence(first, others)),
      moved_by.length > 0 && el("p", { class: "moved" }, "Moved: ", moved_by.map((by, place) => [place ? ", " : "", el("bdi", {}, by)])),
      partsTable(explanation.parts)));
}

/** A title with the words that the query has too marked. */
export function marked(title, matched) {
  const wanted = new Set(matched.map((word) => word.toLowerCase()));
  const pieces = [];
  let done = 0;
  for (const { 0: word, index } of title.matchAll(WORD)) {
    if (!wanted.has(word.toLowerCase())) continue;
    pieces.push(title.slice(done, index), el("mark", {}, word));
    done = index + word.length;
  }
  return [...pieces, title.slice(done)];
}

function sentence(first = "", others = []) {
  const said = [first, ...others].filter(Boolean).join("; ");
  return `${said.charAt(0).toUpperCase()}${said.slice(1)}.`;
}
