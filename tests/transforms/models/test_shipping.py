"""A model of this machine for others: uploaded once, by its digest, and the same model there."""

from __future__ import annotations

import hashlib
import io
import os
import pathlib
import pickle
import shutil
import tarfile

import pytest

from tests.helpers.memory_store import ObjectStore
from transforms.errors import UserError
from transforms.machine import entries
from transforms.models import archives, builtin, shipping, staging
from transforms.models.source import ModelSource, files_sha256

LOCATION = "testfs://bucket/models"
FILES = {
    "saved_model.pb": b"graph",
    "variables/variables.index": b"index",
    "assets/Umlaute ä und ein sehr langer Name" + 80 * "e": b"words",
}


@pytest.fixture(autouse=True)
def store() -> dict[str, tuple[bytes, float]]:
    ObjectStore.objects.clear()
    return ObjectStore.objects


@pytest.fixture
def model(tmp_path: pathlib.Path) -> pathlib.Path:
    return write(tmp_path / "model", FILES)


def write(directory: pathlib.Path, files: dict[str, bytes]) -> pathlib.Path:
    for name, content in files.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_bytes(content)
    return directory


def source_of(handle: pathlib.Path | str, cache: pathlib.Path, **how: object) -> ModelSource:
    staged = staging.staged(str(handle), cache_dir=str(cache))
    return ModelSource(str(handle), path=staged.path, sha256=staged.sha256, **how)


def staged_elsewhere(travels: ModelSource, cache: pathlib.Path) -> str:
    """The model as a machine with an empty cache gets it."""
    assert travels.path is None
    return staging.stage(travels.name, travels.sha256, str(cache))


def test_a_directory_is_the_same_model_elsewhere(model, tmp_path, store):
    source = source_of(model, tmp_path / "cache", task="classification", trusted=True)
    travels = shipping.for_other_machines(source, LOCATION)
    assert travels.name == f"{LOCATION}/sha256-{travels.sha256}.tar"
    assert hashlib.sha256(store[travels.name][0]).hexdigest() == travels.sha256
    assert (travels.task, travels.trusted) == ("classification", True)
    path = staged_elsewhere(travels, tmp_path / "other")
    assert files_sha256(ModelSource(path)) == files_sha256(source)
    assert str(tmp_path).encode() not in pickle.dumps(travels)


def test_a_keras_file_is_the_same_file_elsewhere(tmp_path):
    (tmp_path / "my model.keras").write_bytes(b"a zip")
    source = source_of(tmp_path / "my model.keras", tmp_path / "cache")
    travels = shipping.for_other_machines(source, LOCATION)
    path = staged_elsewhere(travels, tmp_path / "other")
    assert ModelSource(travels.name, path=path).is_keras_file
    assert pathlib.Path(path).read_bytes() == b"a zip"


@pytest.mark.parametrize("name", ["model.tar.gz", "model.TGZ", "model.tar"])
def test_an_archive_goes_as_it_is(model, tmp_path, store, name):
    archive = tmp_path / name
    mode = "w" if name.endswith("tar") else "w:gz"
    with tarfile.open(archive, mode) as tar:
        tar.add(model, "model")
    source = source_of(archive, tmp_path / "cache")
    travels = shipping.for_other_machines(source, LOCATION)
    assert store[travels.name][0] == archive.read_bytes()
    assert travels.name == f"{LOCATION}/sha256-{source.sha256}{archive.suffix and name[5:].lower()}"
    path = staged_elsewhere(travels, tmp_path / "other")
    assert files_sha256(ModelSource(path)) == files_sha256(source)


def test_the_same_model_is_the_same_archive(model, tmp_path):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(model, copy)
    for path in copy.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1, 1))
    (copy / "saved_model.pb").rename(copy / "linked")
    (copy / "saved_model.pb").symlink_to("linked")
    packed = []
    for directory in (model, copy):
        packed.append(io.BytesIO())
        archives.pack(str(directory), packed[-1])
    (copy / "linked").unlink()
    assert packed[0].getvalue() != packed[1].getvalue()  # it has a file more
    (copy / "saved_model.pb").unlink()
    (copy / "saved_model.pb").write_bytes(FILES["saved_model.pb"])
    again = io.BytesIO()
    archives.pack(str(copy), again)
    assert again.getvalue() == packed[0].getvalue()


def test_a_model_is_uploaded_once(model, tmp_path, store):
    source = source_of(model, tmp_path / "cache")
    travels = shipping.for_other_machines(source, LOCATION)
    before = dict(store)
    assert shipping.for_other_machines(source, LOCATION) == travels
    assert store == before  # with its time of change
    (model / "saved_model.pb").write_bytes(b"graph 2")
    assert shipping.for_other_machines(source, LOCATION).name != travels.name
    assert len(store) == 2


def test_another_file_in_its_place_is_never_replaced(model, tmp_path, store):
    source = source_of(model, tmp_path / "cache")
    uri = shipping.for_other_machines(source, LOCATION).name
    store[uri] = (b"half", 1.0)
    with pytest.raises(UserError, match=r"has 4 bytes and not the .*: delete it") as refused:
        shipping.for_other_machines(source, LOCATION)
    assert uri in str(refused.value)
    assert store[uri] == (b"half", 1.0)


def test_a_model_that_changes_meanwhile_is_not_uploaded(model, tmp_path, store, monkeypatch):
    pack = archives.pack

    def packed_while_it_changes(path, target):
        pack(path, target)
        (model / "saved_model.pb").write_bytes(b"trained")

    monkeypatch.setattr(archives, "pack", packed_while_it_changes)
    with pytest.raises(UserError, match="has changed while it was read"):
        shipping.for_other_machines(source_of(model, tmp_path / "cache"), LOCATION)
    assert store == {}


def test_a_damaged_archive_is_refused_where_it_is_staged(model, tmp_path, store):
    travels = shipping.for_other_machines(source_of(model, tmp_path / "cache"), LOCATION)
    content = store[travels.name][0]
    store[travels.name] = (content[:600] + b"?" + content[601:], 1.0)
    with pytest.raises(UserError, match="its SHA-256 is"):
        staged_elsewhere(travels, tmp_path / "other")


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_where_all_see_the_same_files_the_path_travels(model, tmp_path, kind):
    handle = model
    if kind == "archive":
        handle = pathlib.Path(shutil.make_archive(str(tmp_path / "packed"), "tar", model))
    travels = shipping.for_other_machines(source_of(handle, tmp_path / "cache"), None)
    assert travels.name == str(handle)
    path = staged_elsewhere(travels, tmp_path / "other")
    assert entries.tree_sha256(path) == entries.tree_sha256(str(model))
    (model / "saved_model.pb").write_bytes(b"trained")
    if kind == "directory":
        with pytest.raises(UserError, match="its SHA-256 is"):
            staged_elsewhere(travels, tmp_path / "third")


def test_what_kaggle_has_brought_goes_from_where_it_is(model, tmp_path):
    source = ModelSource("kaggle://owner/model/keras/name/1", path=str(model))
    travels = shipping.for_other_machines(source, LOCATION)
    path = staged_elsewhere(travels, tmp_path / "other")
    assert files_sha256(ModelSource(path)) == files_sha256(source)
    assert shipping.for_other_machines(source, None).name == str(model)


def test_what_has_a_uri_is_not_uploaded(tmp_path, store):
    archive = io.BytesIO()
    archives.pack(str(write(tmp_path / "model", FILES)), archive)
    store["testfs://hub/model.tar"] = (archive.getvalue(), 1.0)
    source = source_of("testfs://hub/model.tar", tmp_path / "cache")
    travels = shipping.for_other_machines(source, LOCATION)
    assert travels.name == "testfs://hub/model.tar"
    assert travels.sha256 == hashlib.sha256(archive.getvalue()).hexdigest()
    assert staged_elsewhere(travels, tmp_path / "other")
    assert list(store) == ["testfs://hub/model.tar"]


def test_the_built_in_model_is_there_already():
    assert shipping.for_other_machines(ModelSource(), None) == ModelSource(builtin.NAME)
