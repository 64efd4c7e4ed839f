"""What lies in the cache is run only where nobody else can have put it, and is what it says."""

from __future__ import annotations

import os
import pathlib
import shutil

import pytest
import tensorflow as tf

from tests.helpers.tiny_model import save_tiny_model
from tests.helpers.web import web_server
from transforms.engines import openvino
from transforms.errors import UserError
from transforms.machine import entries
from transforms.machine.cache import UnsafeCacheError, cache_path
from transforms.models import builtin, copies, loading, staging
from transforms.models.source import ModelSource

UNREACHABLE = "http://127.0.0.1:1/model.tar.gz"


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """An entry of the cache, as whole as its own, with a model that writes a file."""
    root = tmp_path_factory.mktemp("planted")

    class Planted(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 8, 8, 3], tf.float32)])
        def __call__(self, images):
            tf.io.write_file(str(root / "written"), "x")
            return tf.reduce_mean(images, [1, 2])

    tf.saved_model.save(Planted(), str(root / "model"))
    entries.keep(str(root / "model"), str(root / "entry"))
    return root / "entry"


@pytest.fixture
def cache(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_made_for_its_user_alone(cache):
    previous = os.umask(0)
    try:
        cache_path("models")
    finally:
        os.umask(previous)
    assert cache.stat().st_mode & 0o777 == 0o700


def test_what_this_user_makes_in_it_is_taken_whatever_his_umask(cache):
    previous = os.umask(0o002)
    try:
        for _ in range(2):
            path = cache_path("openvino", "key", "description.json")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            pathlib.Path(path).write_text("{}")
    finally:
        os.umask(previous)


def test_a_model_elsewhere_does_not_care_for_the_cache(cache):
    cache.mkdir()
    cache.chmod(0o777)
    copies.refuse_damaged("/data/model")
    with pytest.raises(UnsafeCacheError):
        copies.refuse_damaged(str(cache / "models" / "sha256-1" / "tree"))


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o775, 0o722])
@pytest.mark.parametrize("names", [(), ("models",), ("models", "sha256-1")])
def test_a_cache_that_others_can_write_is_refused(cache, mode, names):
    cache.joinpath(*names).mkdir(parents=True)
    cache.chmod(0o755)
    cache.joinpath(*names).chmod(mode)
    told = rf"can be written by others \(mode {mode & 0o777:o}"
    with pytest.raises(UnsafeCacheError, match=told):
        cache_path(*names)


def test_a_cache_of_another_user_is_refused(cache, monkeypatch):
    cache.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    if os.getuid() == 0:
        os.chown(cache, 12345, -1)
    with pytest.raises(UnsafeCacheError, match=r"belongs to another user \(\d+\)"):
        cache_path("models")


@pytest.mark.parametrize(
    "use",
    [
        lambda model: loading.load_model(ModelSource()),
        lambda model: staging.stage(UNREACHABLE),
        lambda model: openvino.load(ModelSource(model)),
    ],
    ids=["the built-in", "staging", "OpenVINO's conversions"],
)
def test_whoever_uses_an_unsafe_cache_says_so_in_one_line(cache, tmp_path, use):
    model = str(save_tiny_model(tmp_path / "model"))
    cache.mkdir()
    cache.chmod(0o777)
    with pytest.raises(UserError, match="can be written by others") as info:
        use(model)
    assert "\n" not in str(info.value) and "BEAM_IMAGE_FEATURES_CACHE" in str(info.value)


def test_a_planted_export_of_the_built_in_is_checked_like_any_model(cache, planted):
    digest = builtin.answers_sha256("feature_vector")[:12]
    shutil.copytree(planted, cache / f"{builtin.NAME}-feature_vector-{digest}")
    with pytest.raises(UserError, match="WriteFile"):
        loading.load_model(ModelSource())


@pytest.mark.parametrize("says", ["nothing", "another digest", "only itself, and not first"])
def test_the_name_of_an_entry_satisfies_no_pin(cache, planted, says):
    pin = "5" * 64
    place = cache / "models" / f"sha256-{pin}"
    shutil.copytree(planted, place)
    if says == "another digest":
        (place / entries.MARKER).write_text(f"{entries.tree_sha256(str(place))}\n{'6' * 64}")
    elif says == "only itself, and not first":
        (place / entries.MARKER).write_text(f"{pin}\n{entries.tree_sha256(str(place))}")
    assert copies.kept_model(str(cache / "models"), pin) or says == "only itself, and not first"
    assert copies.pinned_model(str(cache / "models"), pin) is None


def test_a_pinned_model_is_not_taken_from_the_cache_because_of_its_name(cache, planted, tmp_path):
    pin = "5" * 64
    shutil.copytree(planted, cache / "models" / f"sha256-{pin}")
    with web_server(tmp_path) as server, pytest.raises(UserError, match="404"):
        staging.stage(f"{server}/gone.tar.gz", pin)


def test_a_pin_of_files_is_satisfied_by_these_files(cache, planted):
    digest = entries.tree_sha256(str(planted))
    shutil.copytree(planted, cache / "models" / f"sha256-{digest}")
    assert staging.stage("gs://nowhere/model", digest).endswith(digest)


def test_a_staged_model_is_read_against_its_manifest_where_it_is_loaded(cache, planted):
    """A worker is given the path of what its launcher has staged."""
    digest = entries.tree_sha256(str(planted))
    place = cache / "models" / f"sha256-{digest}"
    shutil.copytree(planted, place)
    with open(place / "saved_model.pb", "ab") as file:
        file.write(b"\x12\x00")
    source = ModelSource("gs://nowhere/model", path=str(place), trusted=True)
    with pytest.raises(UserError, match="has changed since it was put there: delete it"):
        loading.load_model(source)
