#!/bin/sh
# The demo pair from nothing: about an hour and a half on two cores. Needs torch and tokenizers:
#   pip install -e '.[train]' tokenizers
# PYTHON names the interpreter that has them, whose own standard library is the corpus; DSPARK the program beside it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
out=${1:-$here/build}
dspark=${DSPARK:-dspark-local}
"$python" "$here/train_target.py" --out "$out"
"$python" "$here/prompts.py" --out "$out"
"$dspark" convert target "$out/target" --to Q4_0 --out "$out/demo-q4_0.gguf"
"$dspark" train "$out/demo-q4_0.gguf" --prompts "$out/prompts.jsonl" --out "$out/draft" --max-tokens 200 \
    --file "$out/dspark-demo-q8_0.gguf"
"$dspark" eval "$out/demo-q4_0.gguf" --suite "$out/held-out.jsonl" --max-tokens 300
