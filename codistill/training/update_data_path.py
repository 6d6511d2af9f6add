"""Telling a run where its data lie now, once they moved: the same images, under another name."""

import shlex
from pathlib import Path

from codistill.config.schema import make_config
from codistill.data.fingerprint import changed_since
from codistill.errors import UserError
from codistill.storage.run_dir import RunFolder
from codistill.training.build import identity, read_data
from codistill.training.display import Silent
from codistill.training.recorder import Display
from codistill.training.restore import read_run_config


def relocate(run: str | Path, data: str, display: Display | None = None) -> None:
    """Write into the configuration of a run, finished or not, that its data is called ``data`` now.

    display: told while images are decoded. Raises UserError, and changes nothing, unless these are the images of every
    split that the run began with.
    """
    run, display = Path(run), display or Silent()
    config = read_run_config(run).model_dump(mode="json")
    moved = make_config({**config, "data": {**config["data"], "name": data}})
    with RunFolder(run, display.warn) as folder:
        if not folder.saved:
            command = shlex.join(
                ["codistill", "train", f"{run}/config.yaml", f"data={data}", f"run={run}", "--overwrite"]
            )
            raise UserError(
                f"Nothing was saved yet in '{run}' by which its data could be known. Begin it anew: {command}"
            )
        checkpoint = folder.take_up()
        assert checkpoint is not None
        _, splits = read_data(moved, display.decoding, checkpoint)
        if changed := changed_since(checkpoint, *identity(splits)):
            raise UserError(
                f"The images of '{data}' for {', '.join(changed)} are not those of the run in '{run}', or another "
                "version of Pillow decodes them otherwise. Nothing was changed."
            )
        folder.write_config(moved.to_yaml())
