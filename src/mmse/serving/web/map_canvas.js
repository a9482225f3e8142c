/** Draws the map on a canvas: points, names of regions, the hits, and the place of the query. */

import { huesOf } from "./hues.js";
import { isDark } from "./scheme.js";

/** The colours of categories, and those of the page that the canvas needs. */
export function paletteOf(categories, node) {
  const style = getComputedStyle(node);
  const colour = (name) => style.getPropertyValue(name).trim();
  const dark = isDark();
  const hues = huesOf(categories);
  const isOdd = (hue) => Math.round((hue * categories.length) / 360) % 2 === 1;
  return {
    ink: colour("--map-ink"), paper: colour("--map-paper"), accent: colour("--map-accent"),
    points: hues.map((hue) => `oklch(${(dark ? 0.68 : 0.58) + (isOdd(hue) ? 0.13 : 0)} 0.14 ${hue})`),
  };
}

/** Draws everything that `scene` says: `map`, `camera`, `colours`, `hits` (ranks by point), `place`, `muted`, `pointed`. */
export function paint(context, scene) {
  const { camera, colours } = scene;
  const ratio = context.canvas.width / camera.width;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colours.paper;
  context.fillRect(0, 0, camera.width, camera.height);
  points(context, scene);
  if (scene.place) ring(context, scene);
  names(context, scene);
  hits(context, scene);
  if (scene.pointed >= 0) pointer(context, scene);
}

function points(context, { map, camera, colours, muted, hits: ranks, place }) {
  const size = Math.min(1.25 + camera.zoom * 0.32, 5);
  context.globalAlpha = ranks.size || place ? 0.58 : 0.75;
  const by = colours.points.map(() => new Path2D());
  for (let at = 0; at < map.x.length; at += 1) {
    const category = map.category[at];
    if (muted.has(category)) continue;
    const [x, y] = camera.toScreen(map.x[at], map.y[at]);
    if (x < -6 || y < -6 || x > camera.width + 6 || y > camera.height + 6) continue;
    by[category].moveTo(x + size, y);
    by[category].arc(x, y, size, 0, 7);
  }
  by.forEach((path, category) => {
    context.fillStyle = colours.points[category];
    context.fill(path);
  });
  context.globalAlpha = 1;
}

function ring(context, { camera, colours, place }) {
  const [x, y] = camera.toScreen(place.x, place.y);
  const radius = Math.min(Math.max(place.spread * camera.scale, 36), 4000);
  context.beginPath();
  context.arc(x, y, radius, 0, 7);
  context.fillStyle = colours.accent;
  context.globalAlpha = 0.1;
  context.fill();
  context.globalAlpha = 1;
  context.lineWidth = 1.5;
  context.strokeStyle = colours.accent;
  context.setLineDash([5, 4]);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(x - 7, y);
  context.lineTo(x + 7, y);
  context.moveTo(x, y - 7);
  context.lineTo(x, y + 7);
  context.lineWidth = 2.5;
  context.stroke();
}

/** Coarse names while far out, finer ones nearer; none over another. */
function names(context, { map, camera, colours, family }) {
  const finest = camera.zoom < 2 ? 0 : camera.zoom < 5.5 ? 1 : 2;
  const levels = [...new Set(map.regions.map((region) => region.level))].sort((a, b) => a - b);
  const visibleLevels = levels.slice(0, finest + 1);
  const boxes = [];
  const sorted = map.regions.filter((region) => visibleLevels.includes(region.level)).sort((a, b) => b.level - a.level || b.weight - a.weight);
  const ordered = finest === 0 ? sorted : [...sorted.filter((region) => region.level === visibleLevels.at(-1)), ...sorted.filter((region) => region.level !== visibleLevels.at(-1))];
  context.textAlign = "center";
  context.textBaseline = "middle";
  context.lineJoin = "round";
  for (const region of ordered) {
    const [x, y] = camera.toScreen(region.x, region.y);
    if (x < -80 || y < -20 || x > camera.width + 80 || y > camera.height + 20) continue;
    const coarse = levels.indexOf(region.level) === 0;
    const size = coarse ? 14 : 12;
    context.font = `${coarse ? 650 : 550} ${size}px ${family}`;
    const half = context.measureText(region.name).width / 2 + 6;
    const centre = Math.min(Math.max(x, half), camera.width - half);
    const box = [centre - half, y - size * 0.8, centre + half, y + size * 0.8];
    if (boxes.some((drawnBox) => box[0] < drawnBox[2] && box[2] > drawnBox[0] && box[1] < drawnBox[3] && box[3] > drawnBox[1])) continue;
    boxes.push(box);
    context.lineWidth = 4;
    context.strokeStyle = colours.paper;
    context.globalAlpha = 0.86;
    context.strokeText(region.name, centre, y);
    context.globalAlpha = 1;
    context.fillStyle = colours.ink;
    context.fillText(region.name, centre, y);
  }
}

/** The hits by their ranks; one that lies under a better one is a small dot. */
function hits(context, { map, camera, colours, hits: ranks, family }) {
  context.textAlign = "center";
  context.textBaseline = "middle";
  const marks = [];
  for (const [at, rank] of [...ranks].sort((a, b) => a[1] - b[1])) {
    const [x, y] = camera.toScreen(map.x[at], map.y[at]);
    marks.push({ x, y, rank, small: marks.some((mark) => !mark.small && Math.hypot(mark.x - x, mark.y - y) < 17) });
  }
  for (const { x, y, rank, small: isSmall } of marks.sort((a, b) => b.small - a.small)) {
    const radius = isSmall ? 4.5 : 10.5;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fillStyle = colours.accent;
    context.fill();
    context.lineWidth = 2;
    context.strokeStyle = colours.paper;
    context.stroke();
    if (isSmall) continue;
    context.font = `700 10.5px ${family}`;
    context.fillStyle = colours.paper;
    context.fillText(String(rank), x, y + 0.5);
  }
}

function pointer(context, { map, camera, colours, pointed }) {
  const [x, y] = camera.toScreen(map.x[pointed], map.y[pointed]);
  context.beginPath();
  context.arc(x, y, 8, 0, 7);
  context.lineWidth = 2.5;
  context.strokeStyle = colours.ink;
  context.stroke();
}
