/** What lies on a drawing (the grain of its material) and behind it (a pattern of its category). */

import { svg } from "./dom.js";
import { hash } from "./hues.js";

const LINES = {
  wood: "M0 8 C30 3 70 13 100 8 M0 19 C30 24 60 14 100 19 M0 30 C40 26 70 36 100 30 M0 42 C30 47 60 37 100 42 M0 53 C40 48 70 58 100 53 M0 65 C30 70 60 60 100 65 M0 77 C40 72 70 82 100 77 M0 89 C30 94 60 84 100 89",
  ribs: "M5 0V100M12 0V100M19 0V100M26 0V100M33 0V100M40 0V100M47 0V100M54 0V100M61 0V100M68 0V100M75 0V100M82 0V100M89 0V100M96 0V100",
  weave: grid(4, (x, y) => `M${x} ${y}l2 2M${x + 2} ${y}l-2 2`),
  grain: grid(6, (x, y) => `M${x + ((x * 7 + y * 13) % 5)} ${y + ((x * 11 + y * 3) % 5)}h.01`),
  checks: grid(8, (x, y) => `M${x} ${y}h4v4h-4zM${x + 4} ${y + 4}h4v4h-4z`),
  sheen: "M-20 70 L70 -20 M-8 82 L82 -8 M20 110 L110 20",
};
const OF = [
  [/wood|bamboo|rattan|oak|pine|walnut|cork/, "wood"], [/carbon|fibreglass|fiberglass|kevlar/, "checks"],
  [/steel|alumin|titan|metal|iron|brass|chrome|copper|glass|crystal|ceramic|porcelain/, "sheen"],
  [/leather|suede|cowhide|rubber|neoprene|foam|plush|fleece|fur/, "grain"],
  [/cotton|linen|canvas|denim|nylon|polyester|mesh|microfib|wool|cashmere|silk|jute|fabric/, "weave"],
  [/corduroy|knit|ribbed/, "ribs"],
];

/** The grain of a material over the shape with the clip path `id`, or null where the material shows none. */
export function textureOf(material, id) {
  const match = typeof material === "string" && OF.find(([words]) => words.test(material.toLowerCase()));
  if (!match) return null;
  return svg("g", { "clip-path": `url(#${id})` }, pattern(`grain-${match[1]}`, LINES[match[1]], `grain grain-${match[1]}`));
}

/** A quiet pattern that stands for a category. */
export function backdrop(category) {
  const kind = hash(category) % PATTERNS.length;
  return pattern(`pattern-${kind}`, PATTERNS[kind], kind < 2 ? "t-pattern filled" : "t-pattern");
}

let store = null;
/** A use of a path that the page holds once, however many drawings show it. */
function pattern(id, d, look) {
  if (!store) {
    store = svg("svg", { class: "store", "aria-hidden": "true" });
    document.body.append(store);
  }
  if (!document.getElementById(id)) store.append(svg("path", { id, d }));
  return svg("use", { href: `#${id}`, class: look });
}

const PATTERNS = [
  field(16, 16, (x, y) => `M${x - 1.3} ${y}a1.3 1.3 0 1 0 2.6 0a1.3 1.3 0 1 0 -2.6 0`),
  field(20, 20, (x, y) => `M${x} ${y - 2.6}l2.6 2.6l-2.6 2.6l-2.6 -2.6z`),
  field(18, 18, (x, y) => `M${x - 2.5} ${y}h5M${x} ${y - 2.5}v5`),
  Array.from({ length: 15 }, (_, at) => `M${at * 20 - 120} 120L${at * 20} 0`).join(""),
  Array.from({ length: 9 }, (_, at) => `M-10 ${at * 16 + 4}q10 -8 20 0t20 0t20 0t20 0t20 0t20 0t20 0t20 0t20 0`).join(""),
  Array.from({ length: 6 }, (_, at) => `M${-20 - at * 17} 120a${20 + at * 17} ${20 + at * 17} 0 0 1 ${2 * (20 + at * 17)} 0`).join(""),
  field(22, 22, (x, y) => `M${x - 3} ${y + 2}l3 -5l3 5z`),
  field(24, 20, (x, y) => `M${x - 5} ${y}a5 5 0 0 1 10 0`),
];

function grid(step, draw) {
  let path = "";
  for (let y = 0; y < 100; y += step) for (let x = 0; x < 100; x += step) path += draw(x, y);
  return path;
}

function field(nColumns, nRows, draw) {
  let path = "";
  for (let row = 0; row * nRows < 130; row += 1)
    for (let x = row % 2 ? nColumns / 2 : 0; x < 170; x += nColumns) path += draw(x, row * nRows + 4);
  return path;
}
