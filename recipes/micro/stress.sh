#!/bin/sh
# The collapse test on the micro benchmark, shortened: [METHODS=...] [POISONS=...] [SEEDS=...] sh recipes/micro/stress.sh OUT [KEY=VALUE ...]
#
# The peer `b` is harmed, `a` is looked at. Its far smaller network has three convolutions (examples/custom_backbone.py).
# Settings of a method may be given: METHODS=collaborative sh recipes/micro/stress.sh OUT method.reliability=2.
# Can be stopped and started again at any time.
set -e
out=${1:?Where should the runs go? Give a folder.}
shift
here=$(cd "$(dirname "$0")" && pwd)
PYTHONPATH="$here/../../examples${PYTHONPATH:+:$PYTHONPATH}" codistill stress "$here/benchmark.yaml" epochs=24 'tasks=[{name: rotation, fraction: 1}, colour]' "$@" \
    --methods "${METHODS:-dml,ffl,collaborative}" --poisons "${POISONS:-labels80,lr10,labels40,small,reinit}" --seeds "${SEEDS:-3}" \
    --smaller custom_backbone:SmallCNN --jobs 2 --out "$out"
