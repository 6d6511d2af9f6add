"""Whatever is given, there is a result or one sentence that says what is wrong with it; nothing else.

Each property is held against some dozens of examples, and against thousands in ``make test-slow``. The examples are the
same in every run.
"""

import io
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from odd_files import encode, noise

from codistill import UserError
from codistill.config.data import DataConfig
from codistill.config.optimizer import OptimizerConfig
from codistill.config.recipe import load_config
from codistill.config.schema import RunConfig, make_config
from codistill.data.sources.hf_datasets import _decode
from codistill.data.transforms.decode import decode
from codistill.methods import METHODS
from codistill.models import MODELS
from codistill.storage.checkpoint import read, seal
from codistill.storage.run_files import read_config, read_metrics, read_summary
from codistill.storage.yaml import read_yaml
from codistill.tasks import TASKS


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *to: pytest.fail(f"connects to {to}"))


def fuzzed(few: int, many: int, *inputs: st.SearchStrategy[Any]) -> Callable[[Callable[..., None]], Any]:
    """As a decorator: a test of a property over ``few`` examples of its inputs, and a slow one over ``many``."""

    def decorate(holds: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.slow)])
        def test(examples: int) -> None:
            repeatable = settings(
                max_examples=examples,
                deadline=None,
                derandomize=True,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            repeatable(given(*inputs)(holds))()

        return test

    return decorate


# Configurations.

KEYS = [*RunConfig.model_fields, *DataConfig.model_fields, *OptimizerConfig.model_fields]
WORDS = [*KEYS, *METHODS, *TASKS, *MODELS, "none", "auto", "yes", "weight", "over", "temperature", "a", "b", "*/ce", ""]
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(0, 9),
    st.floats(),
    st.floats(0, 1),
    st.text(max_size=5),
    st.sampled_from(WORDS),
    st.binary(max_size=3),
    st.dates(),
    st.datetimes(),
)
NAMES = st.one_of(st.sampled_from(WORDS), st.text(max_size=5), st.integers(0, 3), st.none(), st.booleans(), st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=8,
)


def choice(*table: str) -> st.SearchStrategy[Any]:
    """A name from a table, alone or with settings."""
    return st.sampled_from(table) | st.fixed_dictionaries(
        {"name": st.sampled_from(table)},
        optional=dict.fromkeys(("temperature", "weight", "fraction", "heads"), SCALARS),
    )


STUDENTS = st.lists(st.sampled_from([*MODELS]), min_size=2, max_size=3)
NAMED_STUDENTS = st.dictionaries(st.text(max_size=4), st.sampled_from([*MODELS]), min_size=2, max_size=3)
WEIGHTS = SCALARS | st.fixed_dictionaries({"weight": SCALARS, "over": SCALARS})
SENSIBLE = {
    "students": STUDENTS | NAMED_STUDENTS,
    "tasks": st.lists(choice(*TASKS) | st.none(), max_size=3),
    "method": choice(*METHODS),
    "weights": st.dictionaries(st.text(max_size=5) | st.just("*/ce"), WEIGHTS, max_size=2),
    "data": st.text(max_size=8) | st.fixed_dictionaries({}, optional=dict.fromkeys(DataConfig.model_fields, SCALARS)),
    "optimizer": st.fixed_dictionaries({}, optional=dict.fromkeys(OptimizerConfig.model_fields, SCALARS)),
    "epochs": st.integers(0),
    "batch_size": st.integers(0),
    "device": st.sampled_from(["auto", "cpu", "cuda:3"]) | st.text(max_size=5),
    "compile": SCALARS,
}
SHARES = st.floats(0, 1, exclude_min=True, exclude_max=True)
GOOD = {
    "students": st.lists(st.sampled_from([*MODELS]), min_size=2, max_size=2)
    | st.fixed_dictionaries({"a": st.just("resnet8"), "b c": st.sampled_from([*MODELS])}),
    "tasks": st.sampled_from(["none", *TASKS]) | st.lists(st.sampled_from(["none", *TASKS]), min_size=2, max_size=2),
    "method": st.sampled_from([*METHODS]),
    "weights": st.dictionaries(st.text(max_size=5), SHARES | st.fixed_dictionaries({"weight": SHARES, "over": SHARES})),
    "data": st.text()
    | st.fixed_dictionaries({"name": st.text(), "validation": SHARES, "seed": st.integers(0, 2**32 - 1)}),
    "optimizer": st.fixed_dictionaries({"lr": SHARES, "momentum": SHARES, "warmup_epochs": SHARES}),
    "epochs": st.integers(1),
    "batch_size": st.integers(2),
    "compile": st.booleans() | st.sampled_from(["auto", "cuda_graphs"]),
}
# All good, nearly all good, and mostly odd.
GOOD_MAPPINGS = st.fixed_dictionaries({}, optional=GOOD)
ONE_ODD = st.sampled_from([*SENSIBLE]).flatmap(lambda key: st.fixed_dictionaries({key: SENSIBLE[key]}))
MAPPINGS = (
    GOOD_MAPPINGS
    | st.builds(lambda good, odd: good | odd, GOOD_MAPPINGS, ONE_ODD)
    | st.dictionaries(NAMES, VALUES, max_size=3)
)

# Text that looks like YAML more often than random letters do.
TOKENS = [*"{}[],:-?!&*#|>'\"%@` \n\t\\=~<0", ": ", "- ", "? ", "<<: ", "---", "...", "%YAML 9.9", *WORDS]
TAGS = ("int", "float", "bool", "binary", "timestamp", "set", "omap", "pairs", "null", "str")
TOKENS += [f"!!{tag} " for tag in TAGS]
TOKENS += ["0x1f", "1:30", "1e400", ".nan", ".inf", "2001-01-01", "2001-12-14t21:59:43.10-05:00"]
TOKENS += ["0001-01-01t00:00:00+23:59", "\ufeff", "\x85", "\u2028", "\x00"]
YAML = st.text() | st.lists(st.sampled_from(TOKENS), max_size=12).map("".join) | MAPPINGS.map(repr)


def assert_round_trip(config: RunConfig) -> None:
    assert make_config(read_yaml(config.to_yaml())) == config


def a_configuration_or_a_sentence(make: Callable[[], RunConfig]) -> None:
    """What is made has a YAML that reads back as an equal one; what cannot be made is a UserError of some words."""
    try:
        config = make()
    except UserError as error:
        assert len(str(error).split()) > 3, error
        return
    assert_round_trip(config)


@fuzzed(150, 3_000, MAPPINGS)
def test_a_mapping_is_a_configuration_that_survives_its_yaml_or_is_refused(mapping: dict[Any, Any]) -> None:
    a_configuration_or_a_sentence(lambda: make_config(mapping))


@fuzzed(150, 3_000, st.lists(st.tuples(st.sampled_from(WORDS) | st.text(max_size=5), YAML), max_size=3))
def test_overrides_are_a_configuration_that_survives_its_yaml_or_are_refused(pairs: list[tuple[str, str]]) -> None:
    a_configuration_or_a_sentence(lambda: load_config(None, [f"{key}={value}" for key, value in pairs]))


@fuzzed(100, 3_000, YAML.map(lambda text: text.encode(errors="replace")) | st.binary(max_size=50))
def test_a_recipe_of_any_bytes_is_a_configuration_that_survives_its_yaml_or_is_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder, "recipe.yaml")
        recipe.write_bytes(content)
        a_configuration_or_a_sentence(lambda: load_config(recipe))


@fuzzed(100, 3_000, MAPPINGS.map(lambda mapping: yaml.dump(mapping, allow_unicode=True)) | YAML)
def test_yaml_is_plain_data_or_a_value_error(text: str) -> None:
    try:
        read_yaml(text)
    except ValueError as error:
        assert "\n" not in str(error)


# Images.

IMAGE = noise(size=(24, 16))
FILES = [
    encode(IMAGE),
    encode(IMAGE.convert("P")),
    encode(IMAGE.convert("RGBA")),
    encode(IMAGE, "JPEG"),
    encode(IMAGE, "JPEG", progressive=True),
    encode(IMAGE, "GIF"),
    encode(IMAGE, "BMP"),
    encode(IMAGE, "TIFF"),
    encode(IMAGE, "WEBP"),
    encode(IMAGE, "PPM"),
    encode(IMAGE, "JPEG2000"),
]


@st.composite
def damaged(draw: st.DrawFn, files: list[bytes]) -> tuple[bytes, bytes]:
    """A file, and what is left of it: cut, or with one byte altered, left out or put in, or two parts exchanged."""
    whole = draw(st.sampled_from(files))
    place = draw(st.integers(0, len(whole) - 1))
    other = draw(st.integers(place, len(whole)))
    byte = bytes([draw(st.integers(0, 255))])
    kinds = (
        whole[:place],
        whole[:place] + byte + whole[place + 1 :],
        whole[:place] + whole[place + 1 :],
        whole[:place] + byte + whole[place:],
        whole[other:] + whole[place:other] + whole[:place],
    )
    return whole, draw(st.sampled_from(kinds))


BEGUN = st.builds(
    lambda file, count, rest: file[:count] + rest, st.sampled_from(FILES), st.integers(0, 40), st.binary()
)


@fuzzed(300, 6_000, damaged(FILES).map(lambda pair: pair[1]) | BEGUN | st.binary())
def test_the_bytes_of_an_image_are_decoded_or_refused_by_name(content: bytes) -> None:
    try:
        pixels = _decode({"bytes": content, "path": "cat.png"}, "row 3")
    except UserError as error:
        assert str(error).startswith("row 3 (cat.png): the image cannot be decoded: ")
        return
    height, width, channels = pixels.shape
    assert pixels.dtype == np.uint8
    assert channels == 3
    assert height > 0
    assert width > 0


def test_the_files_to_be_damaged_are_good() -> None:
    for content in FILES:
        assert decode(io.BytesIO(content)).shape == (16, 24, 3)


# Files of a run.

SEALED = seal(
    {
        "cohort": {"weight": torch.arange(50.0)},
        "optimizer": {},
        "config": "epochs: 2",
        "epochs_done": 1,
        "steps_done": 3,
    }
)


@fuzzed(200, 6_000, damaged([SEALED]))
def test_any_damage_of_a_checkpoint_is_noticed(pair: tuple[bytes, bytes]) -> None:
    whole, left = pair
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "checkpoint.pt")
        path.write_bytes(left)
        if left == whole:
            assert read(path)["epochs_done"] == 1
            return
        with pytest.raises(UserError, match=r"is damaged: it was (cut off|altered)"):
            read(path)


JSON_TOKENS = [*'{}[],:"0 \n-.\\', "null", "NaN", "1e999", '"seed"', '"test_accuracy"', '"step"', "{}", "\ud800"]
JSON = st.lists(st.sampled_from(JSON_TOKENS), max_size=12).map(lambda tokens: "".join(tokens).encode(errors="replace"))


READERS = {"config.yaml": read_config, "summary.json": read_summary, "metrics.jsonl": read_metrics}


@fuzzed(100, 3_000, st.binary() | JSON | YAML.map(lambda text: text.encode(errors="replace")))
def test_files_of_a_run_that_hold_anything_are_read_or_refused_by_name(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, reader in READERS.items():
            Path(folder, name).write_bytes(content)
            try:
                reader(Path(folder))
            except UserError as error:
                assert name in str(error)


@pytest.mark.parametrize("content", [b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5_000, b"[]\n", b'{"kind": "epoch"}\n'])
def test_files_of_a_run_that_nest_or_count_too_far_or_hold_no_records_are_refused(
    tmp_path: Path, content: bytes
) -> None:
    for name, reader in READERS.items():
        (tmp_path / name).write_bytes(content + b"\n")
        with pytest.raises(UserError, match=f"{name}' is damaged"):
            reader(tmp_path)
