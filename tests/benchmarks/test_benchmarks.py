"""The benchmarks measure rightly and compare like with like; no speed is asserted here."""

from __future__ import annotations

import functools
import io
import json
import pathlib
import statistics
import sys
from collections.abc import Callable

import PIL.Image
import pytest

from benchmarks import claims, contenders, images, report, results, vectors
from benchmarks.compare import Session
from benchmarks.measure import Measurement, measure
from tests.helpers import commands
from tests.helpers.soak import usual_or_soak
from transforms.inputs.tfrecord_file import scan
from transforms.models import builtin

BURN_AND_HOLD = """
import time
held = bytearray(b"x") * (200 * 2**20)
while time.process_time() < 1.0:
    pass
time.sleep(0.5)
print("done")
"""


def files(directory: pathlib.Path) -> list[pathlib.Path]:
    return sorted(path for path in directory.rglob("*") if path.is_file())


# Images


def test_jpegs_are_of_the_promised_size_and_all_differ(tmp_path):
    made = files(images.image_set("jpeg", 24, tmp_path))
    encoded = {path.read_bytes() for path in made}
    assert len(encoded) == len(made) == 24
    assert 50_000 < statistics.median(map(len, encoded)) < 70_000
    for path in made:
        with PIL.Image.open(path) as image:
            assert (image.format, image.size, image.mode) == ("JPEG", (500, 375), "RGB")


def test_image_sets_are_deterministic(tmp_path):
    small = files(images.image_set("png", 3, tmp_path / "one"))
    large = files(images.image_set("png", 5, tmp_path / "other"))
    assert [p.name for p in large] == [f"{number:06d}.png" for number in range(5)]
    assert [p.read_bytes() for p in small] == [p.read_bytes() for p in large[:3]]


def test_a_set_that_is_there_is_not_made_again(tmp_path):
    directory = images.image_set("png", 2, tmp_path)
    before = directory.stat().st_mtime_ns
    assert images.image_set("png", 2, tmp_path).stat().st_mtime_ns == before


def test_photos_have_twelve_megapixels():
    encoded = images.encoded_image("photo", 0)
    with PIL.Image.open(io.BytesIO(encoded)) as image:
        assert image.size == (4000, 3000)
    assert 2_000_000 < len(encoded) < 8_000_000


def test_a_record_file_holds_the_jpegs(tmp_path):
    (file,) = files(images.image_set("tfrecord", 3, tmp_path))
    assert len(list(scan(str(file)))) == 3
    assert images.encoded_image("jpeg", 2) in file.read_bytes()


# Measuring


def test_a_command_is_measured_with_its_children():
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BURN_AND_HOLD!r}])"
    measured = measure([sys.executable, "-c", code])
    assert measured.stdout == "done\n"
    assert measured.wall_seconds > 1.5
    assert 1.0 <= measured.cpu_seconds < 2.0
    assert 200 <= measured.peak_mib < 300
    assert measured.first_output_seconds is None


def test_a_child_that_nobody_waits_for_is_measured_and_ended(tmp_path):
    code = f"""
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", {BURN_AND_HOLD + "time.sleep(600)"!r}])
pathlib.Path({str(tmp_path / "pid")!r}).write_text(str(child.pid))
ticks = 0
while ticks < 90:  # hundredths of a second, user and system
    ticks = sum(map(int, open(f"/proc/{{child.pid}}/stat").read().split()[13:15]))
    time.sleep(0.1)
time.sleep(1)
"""
    measured = measure([sys.executable, "-c", code])
    assert measured.cpu_seconds > 0.8
    pid = (tmp_path / "pid").read_text()
    status = pathlib.Path(f"/proc/{pid}/status")
    assert not status.exists() or "zombie" in status.read_text()


def test_the_first_output_is_a_parquet_file_with_data(tmp_path):
    code = f"""
import os, pathlib, time
out = pathlib.Path({str(tmp_path)!r})
(out / "_plan").mkdir()
(out / "_plan" / "plan.parquet").write_text("bookkeeping")
(out / "a.parquet").write_text("PAR1")
time.sleep(1)
(out / "a.parquet").write_text("PAR1 and vectors")
time.sleep(2)
"""
    measured = measure([sys.executable, "-c", code], tmp_path)
    assert 1.0 <= measured.first_output_seconds <= measured.wall_seconds - 0.3


def test_a_command_that_fails_is_told_with_what_it_said():
    with pytest.raises(RuntimeError, match=r"(?s)exit code 3.*it broke"):
        measure([sys.executable, "-c", "import sys; print('it broke', file=sys.stderr); exit(3)"])


def test_a_command_that_hangs_is_killed():
    with pytest.raises(RuntimeError, match="exit code -9"):
        measure([sys.executable, "-c", "import time; time.sleep(60)"], limit_seconds=0.5)


# The same work


@pytest.fixture(scope="module")
def session(tmp_path_factory) -> Session:
    cache = tmp_path_factory.mktemp("cache")
    for kind in ("jpeg", "tfrecord"):
        images.image_set(kind, 5, cache / "images")
    return Session(cache, builtin.exported("feature_vector"), {})


def written(session: Session, contender: contenders.Contender, kind: str) -> dict:
    session.run(contender, kind, 5)
    return vectors.read_vectors(session.output(kind, contender))


@pytest.fixture(scope="module")
def ours(session: Session) -> Callable[[str], dict]:
    """Our own vectors of a kind of images, computed once for all peers."""
    return functools.cache(lambda kind: written(session, contenders.OURS[0], kind))


PEERS = [peer for peer in contenders.THEIRS if peer.is_here]  # `make bench` installs the others


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_a_peer_writes_the_same_vectors_as_ours(session, ours, peer):
    kinds = [kind for kind in peer.kinds if kind in ("jpeg", "tfrecord")]
    for kind in usual_or_soak(kinds[:1], kinds):
        likeness = vectors.compare(written(session, peer, kind), ours(kind))
        assert likeness.images == 5
        assert likeness.smallest_cosine > (0.99999 if peer.name != "Daft" else 0.99)


def test_outputs_of_other_images_are_not_compared():
    with pytest.raises(ValueError, match=r"1 images against 2; not in both: \['b.jpg'\]"):
        vectors.compare({"a.jpg": [1.0]}, {"a.jpg": [1.0], "b.jpg": [1.0]})


# Figures


def run(wall: float, cpu: float = 1.0) -> Measurement:
    return Measurement(wall, cpu, 100.0, 2.0, "")


def test_figures_are_differences_of_two_runs():
    pair = results.Pair("x", "jpeg", 1032, run(5.0, 4.0), run(15.0, 14.0))
    assert pair.figures == {
        "whole": 15.0,
        "steady": 100.0,
        "cpu": 10.0,
        "memory": 100.0,
        "start": 2.0,
    }


def test_results_survive_being_written_down(tmp_path):
    some = results.Results(["a machine"], [results.Pair("x", "jpeg", 64, run(5), run(6))])
    some.save(tmp_path / "results.json")
    assert results.load(tmp_path / "results.json") == some


def test_what_was_not_measured_is_said_to_be_so():
    text = report.markdown(results.Results(["a machine"]))
    assert text.count("not measured") == len(claims.CLAIMS)
    assert "holds" not in text


def test_claims_are_ratios_of_medians():
    pairs = [
        results.Pair(name, "jpeg", 1032, run(5), run(5 + seconds))
        for name, seconds in [("ours, tensorflow float32", 10), ("tf.data + hub.load", 14)]
    ]
    assert claims.CLAIMS[0].ratio(results.Results(pairs=pairs)) == pytest.approx(1.4)
    assert claims.CLAIMS[0].holds(results.Results(pairs=pairs))


def test_every_contender_of_a_claim_takes_part():
    names = {contender.name for contender in (*contenders.OURS, *contenders.THEIRS)}
    assert {claims.TENSORFLOW, claims.AUTO, claims.LOOP, claims.BEAM, claims.RAY} <= names


def test_a_plan_of_images_that_are_not_there_is_measured():
    command = [sys.executable, "-m", "benchmarks.planning", "5000"]
    told = json.loads(commands.run(command).out)
    assert told["refs"] == 5000
    assert told["plan_seconds"] > 0
