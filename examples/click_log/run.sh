#!/usr/bin/env bash
# From a real log of clicks alone (query, item, shopper, time; no lists, no orders) to a run folder and its numbers.
#
#   examples/click_log/run.sh FOLDER OUT [SEED]
#
# FOLDER   the click log of Best Buy's Xbox games (ACM SF hackathon, Kaggle): clicks.csv.gz with user, sku, query,
#          click_time and query_time, and items.csv.gz with sku and name. The data are not part of mmse.
# OUT      the folder to write: shop.toml and events.parquet that `mmse init` makes, and the run in OUT/run
# SEED     of training; default: 0
#
# The first four fifths of the log by time are learned from, the last fifth is asked.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//' >&2
  exit 2
fi
data=$1 out=$2 seed=${3:-0}
here=$(cd "$(dirname "$0")" && pwd)
bin=${MMSE_BIN:-$here/../../.venv/bin}

mkdir -p "$out"
cp "$data/clicks.csv.gz" "$data/items.csv.gz" "$out"
"$bin/mmse" init "$out" --make-events
printf '\n[train]\nseed = %s\n' "$seed" >> "$out/shop.toml"
sed -i 's/^\[mine\]$/[mine]\ntest_share = 0.2/' "$out/shop.toml"
"$bin/mmse" run "$out/shop.toml" --out "$out/run"
"$bin/python" "$here/../../benchmarks/click_log.py" "$data" "$out/run"
