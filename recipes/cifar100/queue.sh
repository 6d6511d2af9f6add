#!/bin/sh
# CIFAR-100 with a pair of ResNet-32, most valuable run first: sh recipes/cifar100/queue.sh OUT [KEY=VALUE ...]
#
# Can be stopped and started again at any time: finished runs are skipped, interrupted ones go on after their last
# epoch. On one GPU: sh recipes/cifar100/queue.sh runs/cifar100 data=FOLDER device=cuda precision=bf16
# A shorter schedule, to be labelled as such: add epochs=100.
set -e
out=${1:?Where should the runs go? Give a folder.}
shift
recipe=$(dirname "$0")/../cifar100_resnet32.yaml

one() { # one NAME SEED KEY=VALUE...
    run=$out/$1-seed$2
    seed=$2
    shift 2
    [ -f "$run/summary.json" ] && return
    echo "== $run"
    if [ -f "$run/checkpoint.pt" ]; then
        codistill train --resume "$run"
    else
        codistill train "$recipe" "seed=$seed" "$@" "run=$run" --overwrite
    fi
}

for seed in 0 1 2; do
    one collaborative_rotation_supcon "$seed" "$@"
    one hssakd "$seed" method=hssakd tasks=none "$@"
    one dml "$seed" method=dml tasks=none "$@"
    one independent "$seed" method=independent tasks=none "$@"
    one independent_rotation_supcon "$seed" method=independent "$@"
    one collaborative_rotation_rotation "$seed" tasks=rotation "$@"
done
echo "== Done"
codistill compare "$out"/*-seed?
