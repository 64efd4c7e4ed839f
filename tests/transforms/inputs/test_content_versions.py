"""`--version sha256`: an image is another one if its bytes are, and only then."""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable

import pandas as pd
import pytest
import tensorflow as tf

from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from transforms.inputs.content_versions import with_content_versions
from transforms.inputs.listing import list_images
from transforms.refs import content_version

LIMIT = 2**20


def versions(directory: pathlib.Path, limit: int = LIMIT) -> dict[str, str]:
    refs = with_content_versions(list_images([str(directory)]).refs, limit)
    return {pathlib.Path(ref.id).name: ref.version for ref in refs}


def test_the_version_of_a_file_follows_from_its_bytes(tmp_path: pathlib.Path) -> None:
    first, second = write_random_images(tmp_path, 2)
    before = versions(tmp_path)
    os.utime(first, (1, 1))
    shutil.copy(first, tmp_path / "copy.png")
    after = versions(tmp_path)
    assert after["copy.png"] == after[first.name] == before[first.name]
    assert before[first.name] == content_version(first.read_bytes())
    second.write_bytes(second.read_bytes()[:-1])
    assert versions(tmp_path)[second.name] != before[second.name]


def test_what_is_not_read_keeps_the_version_of_the_listing(tmp_path: pathlib.Path) -> None:
    [path] = write_random_images(tmp_path, 1)
    (tmp_path / "link.png").symlink_to("nowhere")
    [link, listed] = sorted(list_images([str(tmp_path)]).refs, key=lambda ref: "link" not in ref.id)
    assert versions(tmp_path, limit=10) == {path.name: listed.version, "link.png": link.version}


def test_each_record_has_the_version_of_its_own_bytes(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "a.tfrecord"

    def write(records: list[bytes]) -> list[str]:
        with tf.io.TFRecordWriter(str(path)) as writer:
            for record in records:
                writer.write(record)
        refs = with_content_versions(list_images([str(path)]).refs, LIMIT)
        return [ref.version for ref in refs]

    assert write([b"one", b"two"]) == [content_version(b"one"), content_version(b"two")]
    assert write([b"one", b"three"])[0] == content_version(b"one")


@pytest.mark.parametrize("version", ["mtime", "sha256"])
def test_sync_computes_a_touched_image_again_only_by_mtime(
    tmp_path: pathlib.Path,
    tiny_model: pathlib.Path,
    run_here: Callable[..., Finished],
    version: str,
) -> None:
    paths = write_random_images(tmp_path / "in", 6)
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    command += ["--version", version, "--mode", "sync"]
    assert run_here(*command).code == 0
    before = pd.read_parquet(tmp_path / "out").set_index("id")
    os.utime(paths[0], (1, 1))
    data = paths[1].read_bytes()
    status = paths[1].stat()
    paths[1].write_bytes(paths[2].read_bytes())
    os.utime(paths[1], ns=(status.st_atime_ns, status.st_mtime_ns))
    assert len(data) == paths[1].stat().st_size
    done = run_here(*command)
    assert done.code == 0
    # The same size and time with other bytes: only the digest sees it.
    assert "1 changed" in done.err
    after = pd.read_parquet(tmp_path / "out").set_index("id")
    changed = str(paths[0] if version == "mtime" else paths[1])
    assert after.loc[changed, "version"] != before.loc[changed, "version"]
    same = before.index.drop(changed)
    assert (after.loc[same, "version"] == before.loc[same, "version"]).all()
