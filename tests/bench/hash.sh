#!/usr/bin/env bash
# The speed at which plumb hashes a 4 GB source it has never seen (`plumb plan` with an empty cache) beside b3sum on
# the same file, in alternation, median of five. The file is in the page cache for both.
#
#     tests/bench/hash.sh [PLUMB] [BYTES]
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
plumb=$(realpath "${1:-$root/target/release/plumb}")
bytes=${2:-4294967296}
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT

b3sum=$(command -v b3sum || true)
if [ -z "$b3sum" ]; then
  echo "no b3sum on PATH: building one into a temporary folder" >&2
  cargo install --quiet --root "$place/tools" b3sum
  b3sum=$place/tools/bin/b3sum
fi

head -c "$bytes" /dev/urandom > "$place/large.bin"
cat > "$place/p.toml" <<'TOML'
schema = 1

[source.large]
path = "large.bin"

[stage.size]
uses = "command"
with.argv = ["sh", "-c", "wc -c < $0 > $1", "{in:large}", "{out:size}"]
inputs.large = "source.large"
outputs = { size = "size.txt" }
TOML
cat "$place/large.bin" > /dev/null

milliseconds() {
  local start=$EPOCHREALTIME
  "$@" > /dev/null 2>&1
  local end=$EPOCHREALTIME
  echo $(((${end/[.,]/} - ${start/[.,]/}) / 1000))
}

ours=() theirs=()
for round in 1 2 3 4 5; do
  ours+=("$(milliseconds "$plumb" --cache "$place/cache-$round" plan "$place/p.toml")")
  theirs+=("$(milliseconds "$b3sum" "$place/large.bin")")
done
median() { printf '%s\n' "$@" | sort -n | sed -n 3p; }
echo "plumb: ${ours[*]} ms, median $(median "${ours[@]}"); b3sum: ${theirs[*]} ms, median $(median "${theirs[@]}")"
awk -v ours="$(median "${ours[@]}")" -v theirs="$(median "${theirs[@]}")" \
  'BEGIN { printf "speed of plumb / speed of b3sum: %.2f (target 0.80)\n", theirs / ours }'
