"""Several processes that train together, for tests: on the CPU, forked from the server that ``killable`` uses."""

import os
import socket
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from killable import CONTEXT

PATIENCE = 300  # seconds, on a busy machine


def together(count: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """What ``function`` returns in each of ``count`` processes, by rank. They find what torchrun would tell them."""
    with socket.socket() as found, tempfile.TemporaryDirectory() as folder:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        found.close()
        processes = [
            CONTEXT.Process(target=_begin, args=(rank, count, port, Path(folder), function, arguments))
            for rank in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join(PATIENCE)
            if process.exitcode is None:
                process.kill()
        codes = [process.exitcode for process in processes]
        assert codes == [0] * count, f"exit codes {codes}, below 0 a signal; what they said is on stderr"
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=False) for rank in range(count)]


def _begin(rank: int, count: int, port: int, folder: Path, function: Callable[..., Any], arguments: Any) -> None:
    launcher = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    os.environ |= {name: str(value) for name, value in launcher.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    torch.set_num_threads(1)
    try:
        torch.save(function(*arguments), folder / f"{rank}.pt")
        dist.barrier()  # nobody leaves while another still talks to it
        dist.destroy_process_group()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # done: gloo's threads now and then abort the process when Python takes itself down around them
