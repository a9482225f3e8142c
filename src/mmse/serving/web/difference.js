/** How two lists of hits differ. */

/**
 * Of two lists of ids, best first: `places` has for each id its rank in both (or null), `both` how many are in both,
 * `agreement` Kendall's tau-b of the ranks of those (1: same order, -1: reversed, null: fewer than two).
 */
export function difference(left, right) {
  const ranks = new Map();
  left.forEach((id, at) => ranks.set(id, { left: at + 1, right: null }));
  right.forEach((id, at) => ranks.set(id, { left: ranks.get(id)?.left ?? null, right: at + 1 }));
  const shared = [...ranks.values()].filter((place) => place.left !== null && place.right !== null);
  return { places: ranks, both: shared.length, agreement: kendall(shared), same: shared.filter((rank) => rank.left === rank.right).length };
}

function kendall(pairs) {
  if (pairs.length < 2) return null;
  let sum = 0;
  for (let i = 0; i < pairs.length; i += 1)
    for (let j = 0; j < i; j += 1)
      sum += Math.sign((pairs[i].left - pairs[j].left) * (pairs[i].right - pairs[j].right));
  return (2 * sum) / (pairs.length * (pairs.length - 1));
}
