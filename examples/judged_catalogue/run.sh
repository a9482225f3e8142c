#!/usr/bin/env bash
# From a real catalogue and its human judgements to a run folder for `mmse evaluate` and `mmse search`.
#
#   examples/judged_catalogue/run.sh ITEMS JUDGEMENTS OUT [SPLIT]
#
# ITEMS       item_id, title and any further columns (CSV, Parquet or JSON Lines, plain or .gz)
# JUDGEMENTS  query, item_id, relevance, split
# OUT         the run folder to write; the simulated shop is in OUT/shop
# SPLIT       the judgements for training; default: train. No query of another split is in the log.
set -euo pipefail

if [ $# -lt 3 ]; then
  sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 2
fi
items=$1 judgements=$2 out=$3 split=${4:-train}
here=$(cd "$(dirname "$0")" && pwd)
mmse=${MMSE:-$here/../../.venv/bin/mmse}

"$mmse" simulate "$out/shop" --items "$items" --judgements "$judgements" --split "$split"
cat "$here/train.toml" >> "$out/shop/shop.toml"
"$mmse" run "$out/shop/shop.toml" --out "$out"
