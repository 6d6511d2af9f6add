#!/bin/sh
# The demo: three seeds of each recipe, then the comparison. Finished runs are kept, so it can be called again.
set -e
recipes=$(dirname "$0")
for seed in 0 1 2; do
    for name in alone together; do
        run=runs/demo/$name-seed$seed
        [ -f "$run/summary.json" ] && continue
        echo "== $name, seed $seed"
        codistill train "$recipes/$name.yaml" seed=$seed run="$run" --overwrite
    done
done
echo "== Two students, ten images of each digit: alone, and together. Test accuracy in percent, mean ± std over seeds."
codistill compare runs/demo/alone-seed* runs/demo/together-seed*
echo "Run folders: runs/demo/"
