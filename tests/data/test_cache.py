"""Decoded images on disk: used again, never stale, never half, never in the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from codistill.config.schema import make_config
from codistill.data import cache_entry, images
from codistill.data.cache import cached
from codistill.data.cache_entry import Contents, Entry, cache_folder, clear, entries
from codistill.data.sources import hf_datasets
from codistill.data.sources.folder import visible_files
from codistill.data.sources.registry import open_source
from codistill.errors import UserError
from codistill.training.build import build
from codistill.training.runtime import Runtime

datasets = pytest.importorskip("datasets")

ROWS = np.arange(6)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder of one test."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setenv("CODISTILL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Eight images of 6x4 pixels in two class folders."""
    for number in range(8):
        path = tmp_path / "data" / "train" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw(path, number)
    return tmp_path / "data"


def draw(path: Path, seed: int, width: int = 6) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (4, width, 3), dtype=np.uint8)).save(path)


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The place of every image that is decoded."""
    places: list[str] = []
    decode = hf_datasets._decode
    monkeypatch.setattr(hf_datasets, "_decode", lambda cell, place: places.append(place) or decode(cell, place))
    return places


def contents(rows: str = "all") -> Contents:
    return Contents("somewhere", "", "train", "image", rows, None)


def grey(count: int, height: int = 2) -> Iterator[torch.Tensor]:
    for level in range(count):
        yield torch.from_numpy(np.full((height, 3, 3), level, dtype=np.uint8))


def never() -> Iterator[torch.Tensor]:
    raise AssertionError("decoded again")
    yield


def test_a_second_start_decodes_nothing_and_sees_the_same_pixels(data: Path, decoded: list[str]) -> None:
    first = open_source(str(data)).pixels("train", ROWS, None)
    assert len(decoded) == 6
    again = open_source(str(data)).pixels("train", ROWS, None)
    assert len(decoded) == 6
    assert torch.equal(first, again)
    assert torch.equal(first, open_source(str(data), cache=False).pixels("train", ROWS, None))


def change_a_file(data: Path) -> None:
    draw(data / "train" / "cat" / "0.png", seed=99)


def change_only_its_time(data: Path) -> None:
    os.utime(data / "train" / "cat" / "0.png", ns=(0, 1))


def add_a_file(data: Path) -> None:
    draw(data / "train" / "cat" / "zebra.png", seed=99)


@pytest.mark.parametrize("change", [change_a_file, change_only_its_time, add_a_file])
def test_changed_files_are_decoded_again(data: Path, decoded: list[str], change: object) -> None:
    open_source(str(data)).pixels("train", ROWS, None)
    change(data)  # type: ignore[operator]
    fresh = open_source(str(data)).pixels("train", ROWS, None)
    assert len(decoded) == 12
    assert torch.equal(fresh, open_source(str(data), cache=False).pixels("train", ROWS, None))


def state(folder: Path) -> str:
    return cache_entry.state_of_files(folder, visible_files(folder))


def test_the_state_of_a_folder_is_the_names_sizes_and_times_of_its_files(data: Path, tmp_path: Path) -> None:
    path = data / "train" / "cat" / "0.png"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    before = state(data)
    shutil.copytree(data, tmp_path / "copy")  # keeps the times
    assert state(tmp_path / "copy") == before
    path.rename(path.with_name("00.png"))
    assert state(data) != before
    path.with_name("00.png").rename(path)
    path.write_bytes(path.read_bytes() + b"0")
    os.utime(path, ns=times)
    assert state(data) != before
    os.truncate(path, path.stat().st_size - 1)
    assert state(data) != before
    os.utime(path, ns=times)
    assert state(data) == before
    (data / os.fsdecode(b"\xff.png")).touch()  # a name that is no text
    assert state(data) != before


def test_another_revision_behind_the_same_hub_name_is_decoded_again(
    data: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = datasets.load_dataset(str(data))
    revisions = [loaded, loaded, datasets.DatasetDict(train=loaded["train"].select(range(7, -1, -1)))]
    monkeypatch.setattr(datasets, "load_dataset", lambda name: revisions.pop(0))
    first, again, reversed_ = (open_source("someone/images").pixels("train", np.arange(8), None) for _ in range(3))
    assert len(decoded) == 16
    assert torch.equal(first, again)
    assert torch.equal(first, reversed_.flip(0))


@pytest.mark.parametrize(("rows", "size"), [(ROWS[:5], None), (ROWS[::-1].copy(), None), (ROWS, 4)])
def test_other_rows_another_order_and_another_size_are_other_entries(
    data: Path, rows: np.ndarray, size: int | None
) -> None:
    source = open_source(str(data))
    source.pixels("train", ROWS, None)
    pixels = source.pixels("train", rows, size)
    assert torch.equal(pixels, open_source(str(data), cache=False).pixels("train", rows, size))
    assert len(entries(cache_folder())) == 2


def test_the_format_and_the_decoder_are_part_of_the_key() -> None:
    assert (
        Contents("a", "", "train", "image", "", None).key
        != Contents("a", "", "train", "image", "", None, decoder="x").key
    )
    assert contents().key != Contents("somewhere", "", "train", "image", "all", None, format=-1).key


def test_what_is_written_to_the_pixels_never_reaches_the_file() -> None:
    pixels = cached(contents(), grey(4), 4)
    pixels.zero_()
    assert cached(contents(), never(), 4)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def truncate(entry: Entry) -> None:
    os.truncate(entry.pixels, 7)


def lose_the_pixels(entry: Entry) -> None:
    entry.pixels.unlink()


def lose_the_sidecar(entry: Entry) -> None:
    entry.sidecar.unlink()


def cut_the_sidecar(entry: Entry) -> None:
    os.truncate(entry.sidecar, 20)


def put_another_sidecar(entry: Entry) -> None:
    entry.sidecar.write_text('["not ours"]')


def hold_something_else(entry: Entry) -> None:
    entry.pixels.write_bytes(bytes(72))
    entry.describe((4, 2, 3, 3), contents("others"))


@pytest.mark.parametrize(
    "damage",
    [truncate, lose_the_pixels, lose_the_sidecar, cut_the_sidecar, put_another_sidecar, hold_something_else],
)
def test_a_damaged_or_foreign_entry_is_made_again(folder: Path, damage: object) -> None:
    cached(contents(), grey(4), 4)
    damage(Entry(folder, contents().key))  # type: ignore[operator]
    assert cached(contents(), grey(4), 4)[:, 1, 2, 1].tolist() == [0, 1, 2, 3]
    assert torch.equal(cached(contents(), never(), 4), torch.stack(list(grey(4))))


def start(script: str, **more: str) -> "subprocess.Popen[str]":
    """Another process, with this file's helpers at hand."""
    environment = {**os.environ, **more, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", f"from test_cache import *\n{script}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_what_a_killed_process_left_is_removed_by_a_later_one(folder: Path) -> None:
    killed = """
def images():
    yield from grey(2)
    os.kill(os.getpid(), signal.SIGKILL)
cached(contents(), images(), 4)"""
    assert start(killed).wait() == -signal.SIGKILL
    assert [path.suffix for path in folder.glob(f"{contents().key}.*") if path.suffix != ".lock"] == [".part"]
    cached(contents("others"), grey(3), 3)
    assert not list(folder.glob(f"{contents().key}.*"))
    assert cached(contents(), grey(4), 4)[:, 0, 0, 0].tolist() == [0, 1, 2, 3]


def test_of_two_processes_one_makes_the_entry_and_the_other_waits_and_uses_it(folder: Path, tmp_path: Path) -> None:
    wants = """
def wait(name, seconds):
    end = time.monotonic() + seconds
    while not Path(os.environ["FLAGS"], name).exists() and time.monotonic() < end:
        time.sleep(0.01)
def images():
    me, other = os.environ["ME"], os.environ["OTHER"]
    Path(os.environ["FLAGS"], me + " decodes").touch()
    wait(other + " starts", 60)
    wait(other + " decodes", 0.5)  # it would, if nothing held it back
    yield from grey(4)
Path(os.environ["FLAGS"], os.environ["ME"] + " starts").touch()
print(cached(contents(), images(), 4)[:, 0, 0, 0].tolist())"""
    pair = [start(wants, FLAGS=str(tmp_path), ME=me, OTHER=other) for me, other in (("one", "two"), ("two", "one"))]
    assert [process.communicate()[0] for process in pair] == ["[0, 1, 2, 3]\n"] * 2
    assert [process.returncode for process in pair] == [0, 0]
    assert len(list(tmp_path.glob("* starts"))) == 2
    assert len(list(tmp_path.glob("* decodes"))) == 1


def test_a_disk_that_is_too_small_is_named_before_decoding_begins(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def large() -> Iterable[torch.Tensor]:
        for number in range(1000):
            drawn.append(number)
            yield torch.zeros(100, 200, 3, dtype=torch.uint8)

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**7))
    message = r"'somewhere' \(train: 1,000 of 200x100 pixels\) need 0.06 GB, but '.*cache' has 0.01 GB free"
    with pytest.raises(UserError, match=rf"{message}.*CODISTILL_CACHE.*data.cache=false"):
        cached(contents(), large(), 1000)
    assert drawn == [0]  # the size is known from it
    assert not list(folder.iterdir())


def test_a_disk_that_fills_up_meanwhile_is_a_clear_error_too(folder: Path) -> None:
    def filling() -> Iterator[torch.Tensor]:
        yield from grey(2)
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"The disk of '.*cache' is full: .*data.cache=false"):
        cached(contents(), filling(), 4)
    assert not list(folder.iterdir())


def test_a_cache_folder_that_cannot_be_written_is_named(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(UserError, match=r"cache folder '.*cache' cannot be written .*data.cache=false"):
        cached(contents(), grey(4), 4)


def test_an_image_that_cannot_be_decoded_leaves_no_entry(data: Path, folder: Path) -> None:
    os.truncate(data / "train" / "dog" / "5.png", 50)
    with pytest.raises(UserError, match=r"split 'train', row \d .*5.png\): the image cannot be decoded"):
        open_source(str(data)).pixels("train", np.arange(8), None)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("cache", [True, False])
def test_images_of_different_sizes_are_named_and_leave_no_entry(data: Path, folder: Path, cache: bool) -> None:
    draw(data / "train" / "dog" / "5.png", seed=5, width=9)
    with pytest.raises(UserError, match=r"images of different sizes \(6x4 and 9x4\). Set data.image_size"):
        open_source(str(data), cache=cache).pixels("train", np.arange(8), None)
    assert entries(folder) == []


def test_making_an_entry_takes_no_more_memory_for_more_images() -> None:
    def peak(count: int) -> int:
        tracemalloc.start()
        cached(contents(str(count)), grey(count, height=10_000), count)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    peak(1)  # whatever is set up once
    assert peak(40) < peak(4) + 90_000  # one image


def test_without_the_cache_nothing_is_written_and_images_are_held_once(data: Path, folder: Path) -> None:
    assert open_source(str(data), cache=False).pixels("train", ROWS, None).shape == (6, 4, 6, 3)
    assert not folder.exists()
    tracemalloc.start()
    images.gather(grey(40, height=10_000), 40)
    assert tracemalloc.get_traced_memory()[1] < 3 * 90_000  # beside the result
    tracemalloc.stop()


def test_progress_is_told_from_none_to_all_and_only_while_decoding(data: Path) -> None:
    told: list[tuple[int, int]] = []
    for _ in range(2):
        open_source(str(data), progress=lambda done, total: told.append((done, total))).pixels("train", ROWS, None)
    assert told == [(done, 6) for done in range(7)]


def test_the_cache_folder_is_ours_then_the_users_then_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("CODISTILL_CACHE", "/ours")
    assert cache_folder() == Path("/ours")
    monkeypatch.delenv("CODISTILL_CACHE")
    assert cache_folder() == Path("/xdg/codistill")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "codistill"


def test_clearing_leaves_young_entries_the_mapped_pixels_and_the_files_of_others(folder: Path) -> None:
    pixels = cached(contents(), grey(4), 4)
    cached(contents("young"), grey(3), 3)
    (folder / "notes.json").write_text("{}")
    two_days_ago = time.time() - 2 * 86_400
    os.utime(Entry(folder, contents().key).sidecar, (two_days_ago, two_days_ago))
    assert clear(folder, unused_for=3 * 86_400).removed == 0
    assert clear(folder, unused_for=86_400).removed == 1
    assert [entry.key for entry in entries(folder)] == [contents("young").key]
    assert pixels[:, 0, 0, 0].tolist() == [0, 1, 2, 3]
    assert clear(folder).removed == 1
    assert [path.name for path in folder.iterdir()] == ["notes.json"]


def test_opening_an_entry_is_a_use(folder: Path) -> None:
    cached(contents(), grey(4), 4)
    os.utime(Entry(folder, contents().key).sidecar, (0, 0))
    cached(contents(), never(), 4)
    assert clear(folder, unused_for=60).removed == 0


def test_an_entry_that_is_being_made_is_not_cleared(folder: Path) -> None:
    def clearing() -> Iterator[torch.Tensor]:
        for image in grey(4):
            assert clear(folder) == cache_entry.Cleared(removed=0, bytes=0, busy=1)
            yield image

    assert len(cached(contents(), clearing(), 4)) == 4


def test_images_larger_than_memory_are_trained_on_where_the_file_is_mapped(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = make_config({"data": str(data), "batch_size": 2, "tasks": "none"})
    held = list(build(config).loader.epoch(0))
    mapped: list[int] = []
    monkeypatch.setattr(hf_datasets, "cached", lambda *given: remember(mapped, cached(*given)))
    monkeypatch.setattr(Runtime, "free_memory_bytes", lambda self: 0)
    loader = build(config).loader
    assert loader._pixels._pixels.data_ptr() in mapped  # type: ignore[attr-defined]
    streamed = list(loader.epoch(0))
    assert len(streamed) == len(held) > 0
    assert all(torch.equal(one.images, other.images) for one, other in zip(streamed, held, strict=True))


def remember(places: list[int], pixels: torch.Tensor) -> torch.Tensor:
    places.append(pixels.data_ptr())
    return pixels
