/** How two lists of hits differ. */

/**
 * Of two lists of ids, best first: `places` has for each id its rank in both (or null), `both` how many are in both,
 * `agreement` Kendall's tau-b of the ranks of those (1: same order, -1: reversed, null: fewer than two).
 */
export function difference(left, right) {
  const places = new Map();
  left.forEach((id, at) => places.set(id, { left: at + 1, right: null }));
  right.forEach((id, at) => places.set(id, { left: places.get(id)?.left ?? null, right: at + 1 }));
  const shared = [...places.values()].filter((place) => place.left !== null && place.right !== null);
  return { places, both: shared.length, agreement: kendall(shared), same: shared.filter((one) => one.left === one.right).length };
}

function kendall(pairs) {
  if (pairs.length < 2) return null;
  let sum = 0;
  for (let one = 0; one < pairs.length; one += 1)
    for (let other = 0; other < one; other += 1)
      sum += Math.sign((pairs[one].left - pairs[other].left) * (pairs[one].right - pairs[other].right));
  return (2 * sum) / (pairs.length * (pairs.length - 1));
}
