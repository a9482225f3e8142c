/**
 * A picture of an item: its own, where the catalogue has one, or else a drawing that its category, colour and material
 * decide.
 *
 * A drawing is a text in a box of 100: shapes apart by `|`, each a tone, a kind and numbers. Kinds: `R x y width height
 * radius`, `C x y radius`, `E x y rx ry`, `P path`, `L4 path` (a stroke 4 wide). Tones: b base, d darker, l lighter,
 * a accent, s natural, n dark, m metal, w white, g glass, y shine, k shade.
 */

import { depicted } from "./depicted.js";
import { el, freshId, svg } from "./dom.js";
import { steps } from "./format.js";
import { colourOf, hash, hueOf } from "./hues.js";
import { HOME } from "./shapes_home.js";
import { MORE_SHAPES } from "./shapes_more.js";
import { WEAR } from "./shapes_wear.js";
import { backdrop, textureOf } from "./textures.js";

const DRAWINGS = { ...WEAR, ...HOME, ...MORE_SHAPES };
const PICTURES = ["image", "image_url"];

/** The item's own picture; a drawing where it has none or where it cannot be loaded. */
export function pictureOf(item) {
  const source = PICTURES.map((name) => item[name]).find((value) => typeof value === "string" && /^(https?:\/\/|data:image\/|\/(?!\/))/i.test(value));
  if (!source) return picture(item);
  const image = el("img", { class: "picture", src: source, alt: "", loading: "lazy", decoding: "async", on: {
    error: () => image.replaceWith(picture(item)),
  } });
  return image;
}

/** The drawing of an item. */
export function picture(item, size = "") {
  const path = steps(item.category ?? "");
  const [lightness, chroma, hue] = colourOf([item.colour ?? item.color, item.title], String(item.brand ?? path.at(-1) ?? item.title));
  const name = depicted(path, String(item.title ?? ""), hash);
  const angle = (hash(String(item.item_id ?? item.title)) % 9) - 4;
  const id = freshId("body");
  const grain = textureOf(item.material, id);
  return svg("svg", {
    class: `picture ${size}`, viewBox: "0 0 160 120", preserveAspectRatio: "xMidYMid slice", "aria-hidden": "true",
    vars: { "--hl": lightness, "--hc": chroma, "--hh": hue, "--ah": (hue + 165) % 360, "--back": backOf(path) },
  },
  grain && svg("clipPath", { id }, shapes(name, "b")),
  svg("rect", { class: "t-back", width: 160, height: 120 }),
  backdrop(path.slice(0, 2).join(">") || name),
  svg("circle", { class: "t-halo", cx: 80, cy: 58, r: 47 }),
  svg("ellipse", { class: "t-ground", cx: 80, cy: 103, rx: 34, ry: 4.5 }),
  svg("g", { transform: `translate(37 15) scale(.86) rotate(${angle} 50 50)` },
    shapes(name, ""), grain));
}

/** The hue behind a drawing: that of the top category, turned a little by the next one. */
function backOf([top = "", sub = ""]) {
  return (hueOf(top) + ((hash(sub) % 5) - 2) * 18 + 360) % 360;
}

/** The shapes of a drawing, all or those of one tone. */
function shapes(name, tone) {
  return DRAWINGS[name].split("|").filter((part) => !tone || part.startsWith(`${tone} `)).map(shape);
}

function shape(text) {
  const [tone, kind, ...values] = text.split(" ");
  const numbers = values.map(Number);
  if (kind === "R") {
    const [x, y, width, height, rx = 0] = numbers;
    return svg("rect", { class: `t-${tone}`, x, y, width, height, rx });
  }
  if (kind === "C") return svg("circle", { class: `t-${tone}`, cx: numbers[0], cy: numbers[1], r: numbers[2] });
  if (kind === "E") return svg("ellipse", { class: `t-${tone}`, cx: numbers[0], cy: numbers[1], rx: numbers[2], ry: numbers[3] });
  const d = values.join(" ");
  if (kind === "P") return svg("path", { class: `t-${tone}`, d, "fill-rule": "evenodd" });
  return svg("path", { class: `t-${tone} stroke`, d, "stroke-width": kind.slice(1) });
}
