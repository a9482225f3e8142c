/** Why a hit was found: in words, in numbers, and what rules moved. */

import { el } from "./dom.js";
import { partsTable } from "./parts.js";

const WORD = /[\p{L}\p{N}\p{M}]+/gu;

/** A disclosure that explains a hit, or null where the answer does not. */
export function reasons({ explanation, moved_by }) {
  if (!explanation) return null;
  const [reason, ...otherReasons] = explanation.reason.split("; ").filter((text) => !moved_by.includes(text));
  return el("details", { class: "why" },
    el("summary", {}, "Why this hit"),
    el("div", { class: "why-body" },
      el("p", { dir: "auto" }, sentence(reason, otherReasons)),
      moved_by.length > 0 && el("p", { class: "moved" }, "Moved: ", moved_by.map((by, place) => [place ? ", " : "", el("bdi", {}, by)])),
      partsTable(explanation.parts)));
}

/** A title with the words that the query has too marked. */
export function markWords(title, matched) {
  const queryWords = new Set(matched.map((word) => word.toLowerCase()));
  const pieces = [];
  let end = 0;
  for (const { 0: word, index } of title.matchAll(WORD)) {
    if (!queryWords.has(word.toLowerCase())) continue;
    pieces.push(title.slice(end, index), el("mark", {}, word));
    end = index + word.length;
  }
  return [...pieces, title.slice(end)];
}

function sentence(reason = "", otherReasons = []) {
  const text = [reason, ...otherReasons].filter(Boolean).join("; ");
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
