"""How alike the stages of all students are, over a sample of images, without keeping their maps.

Maps are compared whole, every channel at every position a feature, as in the papers of ``codistill.metrics.cka``. Only
their kernels (B, B) are formed, so stages of any size compare.
"""

from collections.abc import Iterable

import torch

from codistill.core.batch import Batch
from codistill.core.cohort import Cohort
from codistill.metrics.cka import MinibatchCKA
from codistill.training.runtime import Runtime


def stage_cka(cohort: Cohort, batches: Iterable[Batch], runtime: Runtime) -> MinibatchCKA:
    """CKA of every stage of every student with every other; layers are named ``student/stage``, stages from 1."""
    found: MinibatchCKA | None = None
    with runtime.only_looking(cohort), torch.autocast(runtime.device.type, enabled=False):
        for batch in batches:
            with runtime.autocast():
                outputs = cohort.see(batch.images)
            kernels = {}
            for name, output in outputs.items():
                for stage, feature_map in enumerate(output.feature_maps, 1):
                    features = feature_map.float().flatten(1)
                    # The estimate does not mind what is subtracted; single precision does.
                    features = features - features.mean(dim=0)
                    kernels[f"{name}/{stage}"] = (features @ features.T).double().cpu().numpy()
            found = found or MinibatchCKA(list(kernels))
            found.update(kernels)
    assert found is not None, "a split has images"
    return found
