"""An output that version 0.1.0 wrote before its modules moved: the same names, settings, footers.

It was made by `python -m pipeline.run --input /photos --output … --image_size 32x32
--rows_per_file 3` from five PNGs of 48×40 pixels and a text file.
"""

from __future__ import annotations

import pathlib
import shutil

import pandas as pd
import pytest

from pipeline import compact, settings, status, verify
from pipeline.options.door import read_options
from pipeline.output import run_record
from pipeline.output.directory import Output, open_output
from pipeline.output.staging import staging_of
from pipeline.planning.plan import make_plan
from tests.helpers import small_night
from tests.helpers.commands import ROOT
from tests.helpers.outputs import committed_ids
from transforms.dataset.layout import part_name
from transforms.dataset.snapshot import load_features
from transforms.refs import ImageRef
from transforms.shards import group_into_shards

NAMES = ["0.png", "1.png", "2.png", "3.png", "4.png", "broken.png"]


@pytest.fixture
def output(tmp_path: pathlib.Path) -> Output:
    shutil.copytree(ROOT / "tests" / "data" / "output_0_1_0", tmp_path / "out")
    return open_output(str(tmp_path / "out")).refresh()


@pytest.fixture
def refs(output: Output) -> list[ImageRef]:
    """The images as a listing of today would give them."""
    seen = pd.read_parquet(output.directory, columns=["id", "version"])
    errors = pd.read_parquet(output.path("_errors"), columns=["id", "version"])
    versions = dict(pd.concat([seen, errors]).itertuples(index=False))
    assert versions["/photos/3.png"].endswith("-1000000000000000003")
    return [ImageRef(f"/photos/{n}", f"/photos/{n}", versions[f"/photos/{n}"]) for n in NAMES]


def test_the_same_refs_make_shards_of_the_same_names(output: Output, refs: list[ImageRef]) -> None:
    shards = group_into_shards(refs, rows_per_file=3)
    assert {part_name(shard.name) for shard in shards} == set(output.parts)


def test_its_settings_are_those_of_the_same_options_now(output: Output) -> None:
    words = ["--input", "/photos", "--output", output.directory, "--image_size", "32x32"]
    options = read_options(words)
    source = settings.open_model(options.model, options.engine)
    fingerprint = dict(settings.resolve(options, source, []).part_format.fingerprint)
    run_record.refuse_other_settings(output, fingerprint)
    assert len(fingerprint) == 24


def test_a_run_finds_nothing_left_to_do(output: Output, refs: list[ImageRef]) -> None:
    for mode in ("append", "sync"):
        plan = make_plan(refs, output, staging_of(output), mode, retry_errors=False)
        assert (plan.computes, plan.unchanged, plan.gone, plan.replaces) == (0, 6, 0, False)


def test_a_run_and_a_sync_go_on_with_it(
    output: Output, refs: list[ImageRef], monkeypatch: pytest.MonkeyPatch, capfd
) -> None:
    """One image is new, then one has changed and one is gone; the numbers are made up."""
    small_night.make_up(monkeypatch.setattr)
    fingerprint = next(iter(output.parts.values())).fingerprint
    versions = {ref.id: ref.version for ref in refs}

    def night(mode: str) -> dict[str, str]:
        assert small_night.run(output.directory, versions, mode=mode, fingerprint=fingerprint) == 0
        assert verify.main([output.directory, "--sample", "0"]) == 0, capfd.readouterr().out
        return committed_ids(open_output(output.directory).refresh())

    versions["/photos/5.png"] = "1-1"
    assert night("append") == versions
    versions["/photos/0.png"] = "1-1"
    del versions["/photos/1.png"]
    assert night("sync") == versions
    rows = load_features(output.directory)
    assert rows.num_rows == 5
    assert rows.schema.field("feature_vector").type.list_size == 1280
    assert "computed with" not in capfd.readouterr().out


def test_it_is_told_verified_and_compacted(output: Output, capfd) -> None:
    assert status.main([output.directory]) == 0
    assert "2 parts, 5 rows, 1 error: 1 NotAnImageError" in capfd.readouterr().out
    before = pd.read_parquet(output.directory).set_index("id").sort_index()
    assert verify.main([output.directory, "--sample", "0"]) == 0
    assert compact.main([output.directory, "--rows_per_file", "10"]) == 0
    assert "2 parts -> 1 part" in capfd.readouterr().out
    assert verify.main([output.directory, "--sample", "0"]) == 0
    pd.testing.assert_frame_equal(
        pd.read_parquet(output.directory).set_index("id").sort_index(), before
    )
