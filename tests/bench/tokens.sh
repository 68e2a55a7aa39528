#!/usr/bin/env bash
# Generation and training tokens of plumb-torch beside Python torch: the same model, batch, dtype and one thread, in
# alternation, median of five (stages/torch/benches/speed.rs).
#
#     tests/bench/tokens.sh MODEL_FOLDER [PYTHON [generate|train]]     PYTHON imports torch 2.11.0 and transformers
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
model=$(realpath "${1:?give the folder of a model}")
python=${2:-python3}
if ! "$python" -c 'import torch, transformers' 2> /dev/null; then
  echo "\`$python\` cannot import torch and transformers: pip install torch==2.11.0 transformers" >&2
  exit 2
fi
exports=$(cargo run --quiet --release -- setup --print-env)
eval "$exports"
exec cargo bench --package plumb-torch --bench speed -- "$model" "$python" "${@:3}"
