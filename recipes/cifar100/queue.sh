#!/bin/sh
# CIFAR-100 with a pair of ResNet-32, the rows of sweep.yaml and longer_sweep.yaml:
#     sh recipes/cifar100/queue.sh OUT [KEY=VALUE ...]
#
# Can be stopped and started again at any time: finished runs are skipped, interrupted ones go on after their last
# saved step. On one GPU: sh recipes/cifar100/queue.sh runs/cifar100 data=FOLDER device=cuda precision=bf16
# A shorter schedule, to be labelled as such: add epochs=100. Then longer_sweep.yaml, whose rows are told apart by how
# long they train, is left out, and with it the task that auto chooses, jigsaw on a quarter of each batch.
#
# With device=cuda among the keys it begins with what must hold there (tests/training/test_cuda.py) and with the speed of a step
# beside the plain loop, each kept in OUT as soon as it is measured.
set -e
out=${1:?Where should the runs go? Give a folder.}
shift
here=$(cd "$(dirname "$0")" && pwd)

row() { # row NAME OPTIONS KEY=VALUE...
    file=$out/speed/$1.json
    shift
    [ -f "$file" ] && return
    echo "== $file"
    codistill bench "$@" --json data=synthetic device=cuda > "$file.part" && mv "$file.part" "$file"
}

case " $* " in *" device=cuda"*)
    mkdir -p "$out/speed"
    if [ ! -f "$out/cuda.log" ]; then
        failed=0
        python3 -m pytest "$here/../../tests/training/test_cuda.py" -p no:xdist > "$out/cuda.log.part" 2>&1 || failed=$?
        tail -3 "$out/cuda.log.part"
        # 1: some tests failed, which is a result. More: they did not run, and are tried again at the next start.
        [ "$failed" -gt 1 ] || mv "$out/cuda.log.part" "$out/cuda.log"
    fi
    pair="students=[resnet32,resnet32]"
    row pair_views_compiled --against naive $pair 'tasks={name: rotation, fraction: 1}' precision=bf16 compile=true || true
    row pair_views_graphs --against naive $pair 'tasks={name: rotation, fraction: 1}' precision=bf16 compile=cuda_graphs || true
    row pair_views_eager --against naive $pair 'tasks={name: rotation, fraction: 1}' precision=bf16 compile=false || true
    row pair_graphs --against naive $pair method=dml tasks=none precision=bf16 compile=cuda_graphs || true
    row pair_compiled --against naive $pair method=dml tasks=none precision=bf16 compile=true || true
esac

codistill sweep "$here/sweep.yaml" --out "$out" "$@"
case " $* " in
*" epochs="*) ;;
*) codistill sweep "$here/longer_sweep.yaml" --out "$out" "$@" ;;
esac
