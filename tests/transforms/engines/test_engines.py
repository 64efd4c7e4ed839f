"""Engines: the same vectors as the loaded model gives, in slices, in threads, from the cache."""

from __future__ import annotations

import concurrent.futures
import gc
import pathlib
import subprocess
import sys
import weakref

import numpy as np
import pytest

from tests.helpers.commands import PATIENCE_SECONDS, run_python, start
from tests.helpers.tiny_model import TINY_SIZE, save_tiny_model
from transforms import engines
from transforms.engines import parity
from transforms.engines.slices import in_slices
from transforms.errors import Parameter, UserError
from transforms.images.decode import decode_image
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.models import builtin
from transforms.models.source import ModelSource

BUILTIN = ModelSource(builtin.NAME)


def tiny(path: pathlib.Path) -> ModelSource:
    return ModelSource(str(path), path=str(path))


def random_images(count: int) -> np.ndarray:
    return np.random.default_rng(count).random((count, TINY_SIZE, TINY_SIZE, 3), np.float32)


@pytest.mark.parametrize("count", [1, 2, 7, 8, 9, 31, 33])
@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_slices_give_each_image_its_vector(
    tiny_model: pathlib.Path, name: engines.EngineName, count: int
) -> None:
    images = random_images(count)
    engine = engines.load(tiny(tiny_model), name)
    expected = np.concatenate([engine(images[at : at + 1]) for at in range(count)])
    np.testing.assert_allclose(engine(images), expected, rtol=1e-5, atol=1e-6)


def test_a_slice_that_fails_fails_the_batch() -> None:
    def run(images: np.ndarray) -> np.ndarray:
        if images[0] == 4:
            raise ValueError("no")
        return images

    with pytest.raises(ValueError, match="no"):
        in_slices(run, np.arange(8), 2)
    assert in_slices(run, np.arange(3), 2).tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["tensorflow", "openvino"])
def test_threads_share_an_engine(tiny_model: pathlib.Path, name: engines.EngineName) -> None:
    engine = engines.load(tiny(tiny_model), name)
    batches = [random_images(count) for count in range(1, 40)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(engine, batches))
    for batch, answer in zip(batches, answers, strict=True):
        np.testing.assert_allclose(answer, engine(batch), rtol=1e-5, atol=1e-6)


def test_openvino_gives_the_vectors_of_tensorflow_on_photos(photos: list[pathlib.Path]) -> None:
    spec = ImageSpec(224, 224)
    pixels = [decode_image(path.read_bytes(), spec).pixels for path in photos[:4]]
    images = np.stack([to_float(p) if p.dtype == np.uint8 else p for p in pixels])
    reference, engine = engines.load(BUILTIN), engines.load(BUILTIN, "openvino")
    assert parity.compare(engine(images), reference(images)).is_within("float32")
    rounded = np.rint(images * 255).astype(np.uint8)
    assert parity.compare(engine(rounded), reference(rounded)).is_within("float32")


def test_a_warm_cache_needs_no_tensorflow(tmp_path: pathlib.Path) -> None:
    model = save_tiny_model(tmp_path / "own", seed=5)  # no other test has loaded it
    images = random_images(3)
    expected = engines.load(tiny(model), "openvino")(images)
    program = (
        "import sys, numpy as np; from transforms import engines; "
        "from transforms.models.source import ModelSource; "
        f"engine = engines.load(ModelSource('m', path={str(model)!r}), 'openvino'); "
        f"images = np.random.default_rng(3).random((3, {TINY_SIZE}, {TINY_SIZE}, 3), np.float32); "
        "print(engine(images).tolist()); assert 'tensorflow' not in sys.modules"
    )
    done = run_python(program)
    assert done.code == 0, done.err
    np.testing.assert_array_equal(np.array(eval(done.out), np.float32), expected)


def test_a_damaged_conversion_in_the_cache_is_made_anew(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    model = tiny(save_tiny_model(tmp_path / "own", seed=6))
    images = random_images(3)
    expected = engines.load(model, "openvino")(images)
    [weights] = (tmp_path / "cache").rglob("model.bin")
    weights.write_bytes(bytes(weights.stat().st_size))
    engines._engines.clear()
    np.testing.assert_array_equal(engines.load(model, "openvino")(images), expected)


def test_a_model_and_its_successor_stay_loaded(tmp_path: pathlib.Path) -> None:
    """RunInference may be given a new model each hour, in a process that lives for weeks."""
    models = [tiny(save_tiny_model(tmp_path / str(seed), seed=seed)) for seed in (10, 11, 12)]
    loaded = [weakref.ref(engines.load(model)) for model in models[:2]]
    engines.load(models[1], "openvino")  # an engine more is no model more
    assert engines.load(models[0]) is loaded[0]()
    engines.load(models[2])
    gc.collect()
    assert [reference() is None for reference in loaded] == [False, True]
    assert {key[0][0] for key in engines._engines} == {models[0], models[2]}


def test_the_first_answers_of_new_processes_come(tiny_model: pathlib.Path) -> None:
    """OpenVINO's bindings could wait for themselves when two threads asked for the first answer."""
    engines.load(tiny(tiny_model), "openvino")(random_images(1))  # converted into the cache
    program = (
        "import numpy as np; from transforms import engines; "
        "from transforms.models.source import ModelSource; "
        f"engine = engines.load(ModelSource('m', path={str(tiny_model)!r}), 'openvino'); "
        f"print(engine(np.zeros((64, {TINY_SIZE}, {TINY_SIZE}, 3), np.float32)).shape)"
    )
    command = [sys.executable, "-c", program]
    new = [start(command, stdout=subprocess.PIPE) for _ in range(3)]
    assert [process.communicate(timeout=PATIENCE_SECONDS)[0] for process in new] == [
        "(64, 8)\n"
    ] * 3


def test_the_probe_accepts_openvino_and_tells_its_figures(tiny_model: pathlib.Path) -> None:
    found = parity.check_parity(tiny(tiny_model), "openvino", "float32", TINY_SIZE, TINY_SIZE)
    assert found is not None
    assert found.relative_difference < 1e-5
    assert "smallest cosine 1.000000" in str(found)
    assert engines.candidates("auto") == ["openvino", "tensorflow"]


def test_the_probe_sees_another_answer(tiny_model: pathlib.Path) -> None:
    engine = engines.load(tiny(tiny_model))
    images = parity.photo_like_images(TINY_SIZE, TINY_SIZE)
    found = parity.compare(engine(images * 0.999), engine(images))
    assert not found.is_within("float32")
    assert found.is_within("bfloat16")
    assert not found.is_within("bfloat16", min_cosine=1.0)
    assert parity.compare(engine(images), engine(images)).is_within("float32")


def test_the_probe_sees_an_engine_that_overflows() -> None:
    reference = np.array([[1.0, 2.0], [3.0, np.inf]], np.float32)
    assert parity.compare(reference, reference).is_within("float32")
    found = parity.compare(np.array([[1.0, np.inf], [3.0, np.inf]], np.float32), reference)
    assert (found.relative_difference, found.smallest_cosine) == (np.inf, -1.0)
    assert not found.is_within("float32") and not found.is_within("float16")


@pytest.mark.parametrize(
    ("name", "precision", "message"),
    [
        ("tensorflow", "bfloat16", "TensorFlow computes in float32 on a CPU"),
        ("openvino", "float16", "knows float32 and bfloat16"),
    ],
)
def test_a_precision_that_cannot_be_had_is_told(
    tiny_model: pathlib.Path,
    name: engines.EngineName,
    precision: engines.Precision,
    message: str,
) -> None:
    with pytest.raises(UserError, match=message) as info:
        engines.load(tiny(tiny_model), name, precision)
    assert info.value.subject == Parameter("precision", precision)
    assert Parameter("engine", "openvino") in info.value.pieces
