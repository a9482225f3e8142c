/** The point of many that is nearest to a place, found by a grid. */

const CELLS = 64;

/** A grid over points from -1 to 1; `nearest` gives the index of one within `reach`, or -1. */
export function gridOf(xs, ys) {
  const cells = Array.from({ length: CELLS * CELLS }, () => []);
  const cell = (value) => Math.min(Math.max(Math.floor(((value + 1) / 2) * CELLS), 0), CELLS - 1);
  for (let at = 0; at < xs.length; at += 1) cells[cell(ys[at]) * CELLS + cell(xs[at])].push(at);

  function nearest(x, y, reach, allowed = () => true) {
    let [index, smallest] = [-1, reach * reach];
    for (let row = cell(y - reach); row <= cell(y + reach); row += 1)
      for (let column = cell(x - reach); column <= cell(x + reach); column += 1)
        for (const at of cells[row * CELLS + column]) {
          const distance = (xs[at] - x) ** 2 + (ys[at] - y) ** 2;
          if (distance < smallest && allowed(at)) [index, smallest] = [at, distance];
        }
    return index;
  }
  return { nearest };
}
