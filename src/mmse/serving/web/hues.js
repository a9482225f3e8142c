/** Colours from words: the same word always has the same one. */

/** Names of colours as lightness, chroma and hue (OKLCH). */
const NAMED = {
  black: [0.34, 0.012, 270], white: [0.93, 0.005, 90], grey: [0.67, 0.012, 260], gray: [0.67, 0.012, 260], silver: [0.78, 0.01, 250],
  anthracite: [0.4, 0.015, 260], red: [0.6, 0.2, 25], burgundy: [0.44, 0.13, 18], blue: [0.57, 0.16, 255], navy: [0.38, 0.1, 262],
  green: [0.6, 0.14, 150], olive: [0.57, 0.09, 115], mint: [0.82, 0.09, 165], yellow: [0.84, 0.16, 92], orange: [0.72, 0.17, 52],
  purple: [0.54, 0.17, 305], violet: [0.54, 0.17, 300], lilac: [0.74, 0.1, 305], pink: [0.75, 0.14, 355], rose: [0.7, 0.13, 10],
  turquoise: [0.74, 0.11, 195], teal: [0.55, 0.09, 195], brown: [0.47, 0.08, 55], beige: [0.84, 0.045, 82], cream: [0.92, 0.035, 92],
  ivory: [0.94, 0.025, 95], gold: [0.77, 0.12, 82], copper: [0.62, 0.12, 48], bronze: [0.58, 0.09, 65], khaki: [0.68, 0.06, 100],
};

/** A whole number from a text (FNV-1a), the same everywhere. */
export function hash(text) {
  let value = 2166136261;
  for (let place = 0; place < text.length; place += 1) value = Math.imul(value ^ text.charCodeAt(place), 16777619);
  return (value ^ (value >>> 15)) >>> 0;
}

/** The hue (0 to 360) that stands for a word. */
export function hueOf(word) {
  return (hash(word.trim().toLowerCase()) % 24) * 15;
}

/** Hues for many words, as far apart as they can be: in the order of their own hues, all around the circle. */
export function huesOf(words) {
  const order = words.map((word, at) => at).sort((a, b) => hueOf(words[a]) - hueOf(words[b]) || a - b);
  const hues = new Array(words.length);
  order.forEach((at, place) => {
    hues[at] = Math.round((place * 360) / words.length);
  });
  return hues;
}

/** Lightness, chroma and hue of the first of `texts` that names a colour, or else a calm colour that stands for `word`. */
export function colourOf(texts, word) {
  for (const text of texts) {
    const name = String(text ?? "").toLowerCase().split(/[^a-z]+/).find((name) => Object.hasOwn(NAMED, name));
    if (name) return NAMED[name];
  }
  return [0.64, 0.115, hueOf(word)];
}
