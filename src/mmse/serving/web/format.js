/** Numbers and names as people read them. */

const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const money = new Intl.NumberFormat("en", { minimumFractionDigits: 2, maximumFractionDigits: 2 });

export const count = (number) => plain.format(number);

/** A price; the currency is said where the item has one. */
export function price(value, currency) {
  if (typeof currency === "string" && /^[A-Za-z]{3}$/.test(currency))
    return new Intl.NumberFormat("en", { style: "currency", currency }).format(value);
  return money.format(value);
}

/** A share of 1 in per cent, small ones not rounded to nothing. */
export function percent(share) {
  if (share > 0 && share < 0.001) return "< 0.1%";
  return `${share < 0.0995 ? (share * 100).toFixed(1).replace(/\.0$/, "") : Math.round(share * 100)}%`;
}

/** How likely a click is, in words. */
export function likelihood(probability) {
  const percentage = Math.round(probability * 100);
  if (percentage >= 30) return "Very likely";
  if (percentage >= 15) return "Likely";
  if (percentage >= 6) return "Fair chance";
  if (percentage >= 2) return "Long shot";
  return "Unlikely";
}

export const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
export const milliseconds = (value) => `${value < 10 ? value.toFixed(1) : Math.round(value)} ms`;
export const hits = (number) => `${count(number)} ${number === 1 ? "hit" : "hits"}`;

/** A column's name as a heading: `listed_at` as “Listed at”. */
export function heading(column) {
  const words = column.replaceAll("_", " ").trim();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** A value, or several with commas between them. */
export const names = (value) => [value].flat().join(", ");

/** The last `depth` steps of a path `a > b > c`, as “b › c”. */
export function pathEnd(path, depth = 2) {
  return steps(path).slice(-depth).join(" › ");
}

/** The steps of a path, of several paths those of the first. */
export function steps(path) {
  return String([path].flat()[0] ?? "").split(">").map((step) => step.trim()).filter(Boolean);
}
