"""Telling a run where its data lie now, once they moved: the same images, under another name."""

from pathlib import Path

from codistill.config import make_config
from codistill.data import Progress, changed_since
from codistill.display import Silent
from codistill.engine.run_folder import RunFolder
from codistill.errors import UserError
from codistill.experiment import build
from codistill.finished import read_run_config


def relocate(run: str | Path, data: str, progress: Progress | None = None) -> None:
    """Write into the configuration of a run, finished or not, that its data is called ``data`` now.

    progress: told while images are decoded. Raises UserError, and changes nothing, unless these are the images of
    every split that the run began with.
    """
    run = Path(run)
    config = read_run_config(run).model_dump(mode="json")
    moved = make_config({**config, "device": "cpu", "data": {**config["data"], "name": data}})
    with RunFolder(run, Silent().warn) as folder:
        if (checkpoint := folder.take_up()) is None:
            raise UserError(f"Nothing was saved yet in '{run}' by which its data could be known. Begin it anew.")
        experiment = build(moved, progress, pretrained=False)
        if changed := changed_since(checkpoint, experiment.fingerprint, experiment.fingerprints):
            raise UserError(
                f"The images of '{data}' for {', '.join(changed)} are not those of the run in '{run}', or another "
                "version of Pillow decodes them otherwise. Nothing was changed."
            )
        folder.write_config(make_config({**config, "data": {**config["data"], "name": data}}).to_yaml())
