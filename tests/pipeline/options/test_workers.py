"""Workers on other machines: what they cannot see is refused; no path of here travels to them."""

from __future__ import annotations

import dataclasses
import pathlib
import tarfile

import apache_beam as beam
import pytest
from apache_beam.internal.cloudpickle import cloudpickle

from pipeline import graph, settings
from pipeline.options import workers
from pipeline.options.door import read_options
from tests.helpers.memory_store import ObjectStore
from transforms.errors import UserError
from transforms.models import builtin

FLINK = ("--runner", "FlinkRunner", "--flink_master=h:8081")
REMOTE = ("--input", "gs://b/photos", "--output", "gs://b/features")


def refusal(*words: str) -> str:
    with pytest.raises(UserError) as refused:
        read_options([*FLINK, *words])
    message = str(refused.value)
    assert len(message.splitlines()) == 1
    return message


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["--input", "photos", "--output", "gs://b/out"], "--input photos"),
        (["--input", "gs://b/in", "/data/*.jpg", "--output", "gs://b/out"], "--input /data/*.jpg"),
        (["--input", "file:///data", "--output", "gs://b/out"], "--input file:///data"),
        (["--input", "s3://b/in", "--output", "out"], "--output out"),
    ],
)
def test_a_local_path_is_refused_with_what_to_give(words, flag):
    message = refusal(*words)
    assert message.startswith(f"{flag}: on this machine, and the workers of FlinkRunner may be on")
    assert "give gs://, s3:// or hdfs://, or --shared_filesystem" in message
    read_options([*FLINK, *words, "--shared_filesystem"])
    read_options(words)  # DirectRunner
    read_options([*FLINK, *words, "--environment_type=LOOPBACK"])


@pytest.mark.parametrize("model", ["my_model/", "m.keras", "m.tar.gz", "owner/m/keras/v/1"])
@pytest.mark.parametrize("location", [(), ("--temp_location=/tmp/beam",)])
def test_a_local_model_needs_a_place_that_workers_see(model, location):
    message = refusal(*REMOTE, "--model", model, *location)
    assert message.startswith(f"--model {model}: on this machine")
    assert "give --temp_location or --model_staging_location at gs://" in message


@pytest.mark.parametrize("model", ["gs://b/m", "https://h/m.tar.gz", builtin.NAME])
def test_a_model_at_a_uri_needs_none(model):
    read_options([*FLINK, *REMOTE, "--model", model])


@pytest.mark.parametrize(
    ("flags", "location"),
    [
        (["--temp_location=gs://b/tmp"], "gs://b/tmp/models"),
        (["--temp_location=gs://b/tmp", "--model_staging_location=s3://c/m"], "s3://c/m"),
        (["--temp_location=gs://b/tmp", "--shared_filesystem"], None),
        (["--model_staging_location=/nfs/m", "--shared_filesystem"], "/nfs/m"),
    ],
)
def test_where_a_local_model_goes(flags, location):
    options = read_options([*FLINK, *REMOTE, "--model", "my_model/", *flags])
    assert options.workers.model_staging_location == location


@pytest.mark.parametrize("kind", ["directory", "archive"])
def test_no_path_of_the_launcher_is_in_the_graph(
    kind: str,
    tiny_model: pathlib.Path,
    tmp_path: pathlib.Path,
    monkeypatch: pytest.MonkeyPatch,
):
    """Neither that of the model nor of its copy in the cache, of the class names or of anything."""
    ObjectStore.objects.clear()
    monkeypatch.setenv("BEAM_IMAGE_FEATURES_CACHE", str(tmp_path / "cache"))
    (tmp_path / "names.txt").write_text("".join(f"class {number}\n" for number in range(8)))
    model = tmp_path / "model.tar"
    with tarfile.open(model, "w") as tar:
        tar.add(tiny_model, "model")
    words = ["--input", "testfs://b/in", "--output", "testfs://b/out", *FLINK]
    words += ["--task", "classification", "--labels", str(tmp_path / "names.txt")]
    words += ["--temp_location=testfs://b/tmp"]
    words += ["--model", str(tiny_model if kind == "directory" else model)]
    options = read_options(words)
    source = settings.open_model(options.model, options.engine)
    resolved = settings.resolve(options, source, [])
    travels = workers.as_workers_get_it(source, options.workers)

    pipeline = beam.Pipeline()
    there = dataclasses.replace(resolved, source=travels)
    graph.build(pipeline, [], there, options.output.directory, _before_commit)
    pickled = _pickled_transforms(pipeline)
    assert str(tmp_path).encode() not in pickled
    assert str(tiny_model).encode() not in pickled
    assert b"testfs://b/tmp/models/sha256-" in pickled
    assert b"class 7" in pickled


def _before_commit() -> None:
    pass


def _pickled_transforms(pipeline: beam.Pipeline) -> bytes:
    """What the functions of all steps become on their way to a worker."""
    found: list[bytes] = []

    def look(transform: beam.pipeline.AppliedPTransform) -> None:
        dofn = getattr(transform.transform, "dofn", None)
        if dofn is not None:
            found.append(cloudpickle.dumps(dofn))
        for part in transform.parts:
            look(part)

    for transform in pipeline.transforms_stack[0].parts:
        look(transform)
    assert len(found) > 3
    return b"\n".join(found)
