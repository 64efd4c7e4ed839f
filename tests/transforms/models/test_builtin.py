"""The embedded default model: the file is read safely, answers are right, the cache is sound."""

from __future__ import annotations

import os
import pathlib
import pickle
import shutil
import subprocess
import sys
import types
from collections.abc import Mapping

import numpy as np
import pytest
from skimage import data_dir  # type: ignore[attr-defined]

from tests.helpers.commands import PATIENCE_SECONDS, run_python, start, within_patience
from transforms.machine import entries
from transforms.models import builtin
from transforms.models.builtin import efficientnet_lite0, weights


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    directory = str(tmp_path_factory.mktemp("cache"))
    for task in builtin.HEADS:
        builtin.exported(task, directory)
    return directory


@pytest.fixture(scope="session")
def heads(cache: str) -> dict:
    import tensorflow_hub as hub

    return {task: hub.load(builtin.exported(task, cache)) for task in builtin.HEADS}


@pytest.fixture(scope="session")
def state() -> Mapping[str, np.ndarray]:
    return weights.read_state_dict(builtin._weights_path())


def photo(name: str, size: tuple[int, int] = builtin.IMAGE_SIZE) -> np.ndarray:
    """One of scikit-image's photos as the model contract wants it: float32 [1, H, W, 3]."""
    import tensorflow as tf

    encoded = pathlib.Path(data_dir, name).read_bytes()
    pixels = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    pixels = tf.image.convert_image_dtype(pixels, tf.float32)
    return tf.image.resize(pixels, size)[None].numpy()


# The weights file


def write_legacy(path: pathlib.Path, *objects: object, data: bytes = b"") -> str:
    machine = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    with path.open("wb") as file:
        for value in (weights._MAGIC, weights._PROTOCOL, machine, *objects):
            file.write(value if isinstance(value, bytes) else pickle.dumps(value, protocol=2))
        file.write(data)
    return str(path)


class CallsSystem:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple:
        return os.system, (self.command,)


@pytest.mark.parametrize("place", ["state dict", "storage keys", "header"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path: pathlib.Path, place: str) -> None:
    trace = tmp_path / "it-ran"
    evil = CallsSystem(f"touch {trace}")
    if place == "header":
        path = str(tmp_path / "evil.pth")
        pathlib.Path(path).write_bytes(pickle.dumps(evil, protocol=2))
    elif place == "state dict":
        path = write_legacy(tmp_path / "evil.pth", {"weight": evil}, [])
    else:
        path = write_legacy(tmp_path / "evil.pth", {}, evil)

    with pytest.raises(
        weights.WeightsError, match=r"asks for (posix|nt)\.system.* refused"
    ) as info:
        weights.read_state_dict(path)
    assert path in str(info.value)
    assert not trace.exists()


def test_a_tensor_is_read_by_its_offset_and_strides(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch, torch_utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torch._utils", torch_utils)
    storage_type = type("FloatStorage", (), {"__module__": "torch"})
    torch.__dict__["FloatStorage"] = storage_type

    def rebuild() -> None: ...

    rebuild.__module__ = "torch._utils"
    rebuild.__name__ = rebuild.__qualname__ = "_rebuild_tensor_v2"
    torch_utils.__dict__["_rebuild_tensor_v2"] = rebuild

    class Storage:
        pass

    class Tensor:
        def __reduce__(self) -> tuple:
            return rebuild, (Storage(), 1, (2, 3), (1, 2), False, {})

    class Pickler(pickle.Pickler):
        def persistent_id(self, obj: object) -> object:
            if isinstance(obj, Storage):
                return ("storage", storage_type, "7", "cpu", 8, None)
            return None

    path = tmp_path / "pickled"
    with path.open("wb") as file:
        Pickler(file, protocol=2).dump({"weight": Tensor()})
    pickled, values = path.read_bytes(), np.arange(8, dtype="<f4")

    def write(count: int, data: bytes) -> str:
        return write_legacy(
            tmp_path / "t.pth", pickled, ["7"], data=count.to_bytes(8, "little") + data
        )

    read = weights.read_state_dict(write(8, values.tobytes()))
    np.testing.assert_array_equal(read["weight"], [[1, 3, 5], [2, 4, 6]])
    assert read["weight"].dtype == np.float32

    with pytest.raises(weights.WeightsError, match="cut short: 32 bytes expected, 31 left"):
        weights.read_state_dict(write(8, values.tobytes()[:-1]))
    with pytest.raises(weights.WeightsError, match="storage 7 has 4 values, not 8"):
        weights.read_state_dict(write(4, values.tobytes()))


@pytest.mark.parametrize("kept", [0, 100, 20_000, 10_000_000])
def test_a_truncated_weights_file_is_refused(tmp_path: pathlib.Path, kept: int) -> None:
    path = tmp_path / "short.pth"
    path.write_bytes(pathlib.Path(builtin._weights_path()).read_bytes()[:kept])
    with pytest.raises(weights.WeightsError, match=r"cannot read the weights file .*short\.pth"):
        weights.read_state_dict(str(path))


# The answers


@pytest.mark.parametrize(
    ("name", "expected"),
    [("chelsea.png", "Egyptian cat"), ("coffee.png", "espresso"), ("camera.png", "tripod")],
)
def test_photos_are_recognised(heads: dict, name: str, expected: str) -> None:
    logits = heads["classification"](photo(name)).numpy()[0].astype(np.float64)
    probabilities = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    assert builtin.class_names()[int(probabilities.argmax())] == expected
    assert probabilities.max() > 0.5


def numpy_feature_vector(images: np.ndarray, state: Mapping[str, np.ndarray]) -> np.ndarray:
    """The network once more, from its description: NumPy, float64, batch norm kept separate."""

    def convolve(x: np.ndarray, conv: str, norm: str, stride: int, depthwise: bool) -> np.ndarray:
        kernel = state[f"{conv}.weight"].astype(np.float64)
        size = kernel.shape[-1]
        pads = [max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[1:3]]
        x = np.pad(x, [(0, 0), *((p // 2, p - p // 2) for p in pads), (0, 0)])
        x = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        x = x[:, ::stride, ::stride]
        if depthwise:
            x = np.einsum("bhwcij,cij->bhwc", x, kernel[:, 0])
        else:
            x = np.einsum("bhwcij,ocij->bhwo", x, kernel, optimize=True)
        x = (x - state[f"{norm}.running_mean"]) / np.sqrt(state[f"{norm}.running_var"] + 1e-3)
        return x * state[f"{norm}.weight"] + state[f"{norm}.bias"]

    def relu6(x: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 6)

    x = (images.astype(np.float64) * 255 - 127) / 128
    x = relu6(convolve(x, "_conv_stem", "_bn0", 2, False))
    for index in range(16):
        at, before = f"_blocks.{index}.", x
        stride = 2 if index in (1, 3, 5, 11) else 1
        if index > 0:
            x = relu6(convolve(x, f"{at}_expand_conv", f"{at}_bn0", 1, False))
        x = relu6(convolve(x, f"{at}_depthwise_conv", f"{at}_bn1", stride, True))
        x = convolve(x, f"{at}_project_conv", f"{at}_bn2", 1, False)
        if stride == 1 and before.shape == x.shape:
            x = x + before
    return relu6(convolve(x, "_conv_head", "_bn1", 1, False)).mean((1, 2))


@pytest.mark.parametrize("size", [(96, 96), (75, 110)])
def test_both_heads_agree_with_numpy(
    heads: dict, state: Mapping[str, np.ndarray], size: tuple[int, int]
) -> None:
    images = np.concatenate([photo("chelsea.png", size), photo("coffee.png", size)])
    expected = numpy_feature_vector(images, state)
    np.testing.assert_allclose(heads["feature_vector"](images), expected, atol=1e-4)
    logits = expected @ state["_fc.weight"].T + state["_fc.bias"]
    np.testing.assert_allclose(heads["classification"](images), logits, atol=1e-3)


@pytest.mark.parametrize(("task", "width"), [("feature_vector", 1280), ("classification", 1000)])
@pytest.mark.parametrize("size", [160, 224])
@pytest.mark.parametrize("batch", [1, 3])
def test_the_answer_is_float32_of_one_width(
    heads: dict, task: str, width: int, size: int, batch: int
) -> None:
    import tensorflow as tf

    answer = heads[task](tf.zeros([batch, size, size, 3]))
    assert answer.shape == (batch, width)
    assert answer.dtype == tf.float32


@pytest.mark.parametrize(("task", "layers"), [("feature_vector", 49), ("classification", 50)])
def test_the_saved_model_is_reusable(heads: dict, task: str, layers: int) -> None:
    import tensorflow as tf

    model = heads[task]
    assert len(model.variables) == len(model.trainable_variables) == 2 * layers
    assert list(model.regularization_losses) == []

    images = tf.constant(photo("chelsea.png"))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(images))
    assert all(gradient is not None for gradient in tape.gradient(loss, model.trainable_variables))

    served = model.signatures["serving_default"](images=images)
    assert list(served) == [task]
    np.testing.assert_allclose(served[task], model(images), rtol=1e-5, atol=1e-5)


def test_class_names_are_in_imagenet_order_and_each_once() -> None:
    names = builtin.class_names()
    assert len(names) == len(set(names)) == 1000
    expected = {0: "tench", 285: "Egyptian cat", 812: "space shuttle", 967: "espresso"}
    assert {index: names[index] for index in expected} == expected


# The cache


def test_an_unknown_task_is_refused_by_name() -> None:
    for function in (builtin.exported, builtin.answers_sha256):
        with pytest.raises(ValueError, match="'embedding'; it has feature_vector and classific"):
            function("embedding")


def test_the_fingerprint_names_the_directory(cache: str) -> None:
    # The same on every machine; another EXPORT_VERSION changes it, and this line with it.
    assert builtin.answers_sha256("feature_vector").startswith("ebf906efc306")
    assert builtin.answers_sha256("classification") != builtin.answers_sha256("feature_vector")
    assert sorted(os.listdir(cache)) == sorted(
        f"efficientnet-lite0-{task}-{builtin.answers_sha256(task)[:12]}" for task in builtin.HEADS
    )


def test_the_cache_is_where_the_environment_says(
    cache: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    final = os.path.basename(builtin.exported("classification", cache))
    variables = ("HOME", "XDG_CACHE_HOME", "BEAM_IMAGE_FEATURES_CACHE")
    places = [tmp_path / name for name in variables]
    wanted = [
        places[0] / ".cache/beam-image-features",
        places[1] / "beam-image-features",
        places[2],
    ]
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("BEAM_IMAGE_FEATURES_CACHE", raising=False)
    for variable, place, directory in zip(variables, places, wanted, strict=True):
        monkeypatch.setenv(variable, str(place))
        directory.mkdir(parents=True)
        (directory / final).symlink_to(os.path.join(cache, final))
        assert builtin.exported("classification") == str(directory / final)


def test_a_second_call_imports_no_tensorflow(cache: str) -> None:
    script = (
        "import sys; from transforms.models import builtin; "
        "print(builtin.exported('feature_vector', sys.argv[1])); "
        "builtin.class_names(); print('tensorflow' in sys.modules)"
    )
    assert run_python(script, cache).out.split() == [
        builtin.exported("feature_vector", cache),
        "False",
    ]


def test_two_processes_export_at_the_same_moment(tmp_path: pathlib.Path) -> None:
    script = (
        "import sys, tensorflow; from transforms.models import builtin; "
        "print('ready', flush=True); sys.stdin.readline(); "
        "print(builtin.exported('feature_vector', sys.argv[1]))"
    )
    command = [sys.executable, "-c", script, tmp_path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    processes = [start(command, **pipes) for _ in range(2)]
    with within_patience(*processes):
        for process in processes:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=PATIENCE_SECONDS)[0].strip() for process in processes]

    assert [process.returncode for process in processes] == [0, 0]
    assert printed[0] == printed[1]
    assert os.listdir(tmp_path) == [os.path.basename(printed[0])]


def test_the_loser_of_the_race_uses_the_winners_export(
    tmp_path: pathlib.Path, cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = builtin.exported("feature_vector", cache)
    final = tmp_path / os.path.basename(finished)
    save = efficientnet_lite0.save
    winners: list[int] = []

    def overtaken(task: str, state: dict, directory: str) -> None:
        save(task, state, directory)
        subprocess.run(["cp", "-r", finished, final], check=True)
        winners.append(final.stat().st_ino)

    monkeypatch.setattr(efficientnet_lite0, "save", overtaken)
    assert builtin.exported("feature_vector", str(tmp_path)) == str(final)
    assert winners == [final.stat().st_ino]
    assert os.listdir(tmp_path) == [final.name]


def test_an_export_that_fails_leaves_nothing(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def disk_full(task: str, state: dict, directory: str) -> None:
        os.mkdir(directory)
        pathlib.Path(directory, "saved_model.pb").write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(efficientnet_lite0, "save", disk_full)
    with pytest.raises(OSError, match="No space left"):
        builtin.exported("feature_vector", str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("damage", ["an earlier version's", "truncated"])
def test_a_damaged_export_is_made_anew(tmp_path: pathlib.Path, cache: str, damage: str) -> None:
    finished = builtin.exported("feature_vector", cache)
    final = tmp_path / os.path.basename(finished)
    shutil.copytree(finished, final)
    if damage == "truncated":
        os.truncate(final / "variables" / "variables.data-00000-of-00001", 1000)
    else:  # it cannot be known whether it is whole
        os.remove(final / entries.MARKER)
    assert builtin.exported("feature_vector", str(tmp_path)) == str(final)
    assert entries.is_whole(str(final))
    assert os.listdir(tmp_path) == [final.name]
