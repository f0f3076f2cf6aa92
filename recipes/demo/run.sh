#!/bin/sh
# The demo pair from nothing: about an hour and a half on two cores. Needs torch, tokenizers and safetensors:
#   pip install -e '.[train]'
# PYTHON names the interpreter; its own standard library is the corpus.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${1:-$here/build}
"$python" "$here/train_target.py" --out "$out"
"$python" "$here/train_drafter.py" --out "$out"
"$python" "$here/evaluate.py" --out "$out"
