#!/bin/sh
# The demo pair from nothing, `run.sh [--quick] [OUT]`: about an hour and a half on two cores. Needs torch and tokenizers:
#   pip install -e '.[train]' tokenizers
# PYTHON names the interpreter that has them, whose own standard library is the corpus; DSPARK the program beside it.
# --quick takes every part at a size that says nothing, in minutes, to see that they fit together.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
dspark=${DSPARK:-dspark-local}
target='' prompts='' answers='--max-tokens 200' drafter='--anchors 12' suite='--max-tokens 300'
if [ "${1:-}" = --quick ]; then
    shift
    target='--steps 6' prompts='--count 60' answers='--max-tokens 40 --sampled 1' drafter='--steps 6 --anchors 4'
    suite='--max-tokens 20 --limit 4 --temperature 1 --no-speed'
fi
out=${1:-$here/build}
# shellcheck disable=SC2086 # the options are words
{
    "$python" "$here/train_target.py" --out "$out" $target
    "$python" "$here/prompts.py" --out "$out" $prompts
    "$dspark" convert target "$out/target" --to Q4_0 --out "$out/demo-q4_0.gguf"
    "$dspark" train "$out/demo-q4_0.gguf" --prompts "$out/prompts.jsonl" --out "$out/draft" $answers $drafter \
        --file "$out/dspark-demo-q8_0.gguf"
    "$dspark" eval "$out/demo-q4_0.gguf" --suite "$out/held-out.jsonl" $suite
}
