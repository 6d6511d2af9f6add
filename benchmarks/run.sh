#!/bin/sh
# The generated tables of docs/performance.md: sh benchmarks/run.sh [OUT]     (about an hour on two cores; nothing else should run)
#
# One JSON file per row, kept as they are measured: rows that are there already are skipped, so it can be stopped and
# started again. `make tables` puts the committed ones, benchmarks/results, into the docs.
set -e
here=$(dirname "$0")
out=${1:-$here/results}
mkdir -p "$out"

row() { # row NAME OPTIONS KEY=VALUE...
    file=$out/$1.json
    shift
    [ -f "$file" ] && return
    echo "== $file"
    codistill bench "$@" --json data=synthetic > "$file.part"
    mv "$file.part" "$file"
}

pair="students=[resnet32,resnet32]"
dml="method=dml tasks=none"
naive="--against naive --rounds 7 --steps 5"

# Against the plain loop.
row pair_eager $naive $pair $dml
row pair_compiled $naive $pair $dml compile=true
row pair_busy $naive --load 2 $pair $dml
row pair_rotation_contrastive $naive $pair "tasks=[{name: rotation, fraction: 1}, contrastive]" --steps 2

# How cost grows: with students, image size and views.
ours="--rounds 5 --steps 5"
row students_2 $ours "students=[resnet8,resnet8]" $dml
row students_4 $ours "students=[resnet8,resnet8,resnet8,resnet8]" $dml
row students_8 $ours "students=[resnet8,resnet8,resnet8,resnet8,resnet8,resnet8,resnet8,resnet8]" $dml
row size_32 $ours "students=[resnet8,resnet8]" $dml batch_size=16
row size_64 $ours "students=[resnet8,resnet8]" $dml batch_size=16 data.image_size=64
row size_224 $ours "students=[resnet8,resnet8]" $dml batch_size=16 data.image_size=224
row views_1 $ours "students=[resnet8,resnet8]" tasks=supcon method=independent
row views_2 $ours "students=[resnet8,resnet8]" tasks=simclr method=independent
row views_3 $ours "students=[resnet8,resnet8]" "tasks={name: colour, orders: 3}" method=independent
row views_4 $ours "students=[resnet8,resnet8]" "tasks={name: rotation, fraction: 1}" method=independent

for script in framework_tax input_pipeline convolutions; do
    [ -f "$out/$script.json" ] || python "$here/$script.py" > "$out/$script.json"
done
