"""Which GPUs a sweep may use. A number that none has would not stop a run: it would train on the CPU, for days."""

import os

from codistill.errors import UserError


def read_gpus(given: str | None) -> list[str]:
    """``0,1`` as what ``CUDA_VISIBLE_DEVICES`` should be for each; numbers count the GPUs that this process may use.

    Raises UserError unless PyTorch sees every one of them.
    """
    if given is None:
        return []
    numbers = [number.strip() for number in given.split(",")]
    if not all(number.isascii() and number.isdigit() for number in numbers):
        raise UserError(f"--gpus '{given}': expected numbers of GPUs, such as 0,1.")
    import torch  # seconds that nobody should wait for who has none

    visible, count = os.environ.get("CUDA_VISIBLE_DEVICES"), torch.cuda.device_count()
    among = "" if visible is None else f" among CUDA_VISIBLE_DEVICES={visible}"
    if count == 0:
        raise UserError(
            f"--gpus {given}: PyTorch sees no GPU here{among}. Leave --gpus out to train on the CPU; "
            "'codistill doctor' tells what there is."
        )
    for number in numbers:
        if int(number) >= count:
            known = ", ".join(map(str, range(count)))
            raise UserError(f"--gpus {given}: there is no GPU {number}{among}. PyTorch sees: {known}.")
    names = visible.split(",") if visible else [str(number) for number in range(count)]
    return [names[int(number)].strip() for number in numbers]
