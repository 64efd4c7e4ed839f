"""Nights on which something outside goes wrong: readers keep what they have."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
from collections.abc import Callable

import pandas as pd
import pytest

from pipeline import compact, verify
from tests.helpers.commands import Finished
from tests.helpers.images import write_random_images
from transforms.dataset.rewriting import copy_parts
from transforms.dataset.snapshot import load_features, open_features

Run = Callable[..., Finished]

HTML = b"<!DOCTYPE html><html><body>502 Bad Gateway</body></html>"
IMAGES = 40


class Night:
    """A finished sync of 40 images."""

    def __init__(self, root: pathlib.Path, model: pathlib.Path, run: Run):
        self.images = list(write_random_images(root / "in", IMAGES))
        self.out = root / "out"
        self.command = ["--input", root / "in", "--output", self.out, "--model", model]
        self.command += ["--rows_per_file", 10]
        self.run = run
        assert self.sync().code == 0
        self.contents = [path.read_bytes() for path in self.images]

    def sync(self, *flags: object) -> Finished:
        return self.run(*self.command, "--mode", "sync", *flags)

    def rows(self) -> pd.DataFrame:
        """As who lists the directory sees them."""
        return pd.read_parquet(self.out).set_index("id").sort_index()

    def state(self) -> dict[str, str]:
        """What readers go by, byte for byte."""
        names = ["_SUCCESS", "_snapshot.json", *(path.name for path in self.out.glob("part-*"))]
        return {n: hashlib.sha256((self.out / n).read_bytes()).hexdigest() for n in names}

    def replace(self, path: pathlib.Path, content: bytes) -> None:
        """The image has another content and another time."""
        path.chmod(0o644)
        status = path.stat()
        path.write_bytes(content)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 10**9))

    def make_unreadable(self, path: pathlib.Path) -> None:
        """A link that leads nowhere: whoever runs this, also root, cannot read it."""
        path.unlink()
        path.symlink_to("nowhere")

    def report(self) -> dict:
        return json.loads((self.out / "_run.json").read_text())

    def verified(self, capfd: pytest.CaptureFixture[str]) -> str:
        capfd.readouterr()
        assert verify.main([str(self.out), "--sample", "4"]) == 0
        return capfd.readouterr().out


@pytest.fixture
def night(tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run) -> Night:
    return Night(tmp_path, tiny_model, run_here)


def test_error_pages_in_place_of_all_images_change_nothing(
    night: Night, capfd: pytest.CaptureFixture[str]
) -> None:
    before, rows = night.state(), night.rows()
    for path in night.images:
        night.replace(path, HTML)
    failed = night.sync()
    assert failed.code == 1
    assert "40 of 40 images that were tried are errors (100%)" in failed.err
    assert "nothing was published" in failed.err and "--max_error_rate" in failed.err
    assert night.state() == before
    pd.testing.assert_frame_equal(night.rows(), rows)
    assert load_features(str(night.out)).num_rows == IMAGES
    assert night.report()["succeeded"] is False
    assert "readers see the snapshot of before" in night.verified(capfd)

    assert night.sync().code == 1, "nothing is computed again, and it is no better"
    assert night.state() == before
    for path, content in zip(night.images, night.contents, strict=True):
        night.replace(path, content)
    assert night.sync().code == 0
    assert list(night.rows().index) == list(rows.index)
    assert load_features(str(night.out)).num_rows == IMAGES
    assert not list(night.out.glob("_errors/*"))
    night.verified(capfd)


def test_errors_that_are_accepted_are_published_without_computing_again(night: Night) -> None:
    for path in night.images[:20]:
        night.replace(path, HTML)
    assert night.sync().code == 1
    accepted = night.sync("--max_error_rate", 0.5)
    assert accepted.code == 1  # 20 of the 20 that were tried
    accepted = night.sync("--max_error_rate", 1)
    assert accepted.code == 0, accepted.err
    assert "20 were computed by a run that was interrupted" in accepted.err
    assert len(night.rows()) == 20


def test_images_that_cannot_be_read_keep_their_rows(
    night: Night, capfd: pytest.CaptureFixture[str]
) -> None:
    rows = night.rows()
    stale = night.images[3]
    night.make_unreadable(stale)
    night.replace(night.images[5], night.contents[6])
    done = night.sync()
    assert done.code == 0, done.err
    assert f"1 image could not be read, such as {stale}" in done.out
    assert night.report()["stale"] == [str(stale)]
    assert night.report()["counts"]["stale"] == 1
    now = night.rows()
    assert list(now.index) == list(rows.index)
    assert now.loc[str(stale), "version"] == rows.loc[str(stale), "version"]
    assert now.loc[str(night.images[5]), "version"] != rows.loc[str(night.images[5]), "version"]
    again = night.sync()
    assert again.code == 0 and "1 changed" in again.err, "it is tried again"
    stale.unlink()
    stale.write_bytes(night.contents[3])
    assert night.sync().code == 0
    assert night.report()["stale"] == []
    assert night.rows().loc[str(stale), "version"] != rows.loc[str(stale), "version"]
    night.verified(capfd)


def test_when_nothing_can_be_read_it_is_no_success(night: Night) -> None:
    before = night.state()
    for path in night.images:
        night.make_unreadable(path)
    failed = night.sync()
    assert failed.code == 1 and "40 of 40 images that were tried are errors" in failed.err
    assert night.state() == before


@pytest.mark.parametrize(
    ("broken", "flags", "code"),
    [
        (9, (), 0),  # a quiet night with a few broken ones
        (10, (), 1),
        (9, ("--max_error_rate", 0), 1),
        (9, ("--max_error_rate", 0.89), 1),
        (10, ("--max_error_rate", 1), 0),
    ],
)
def test_a_few_errors_are_no_reason_to_fail_unless_it_is_asked_for(
    night: Night, broken: int, flags: tuple[object, ...], code: int
) -> None:
    for path in night.images[:broken]:
        night.replace(path, HTML)
    assert night.sync(*flags).code == code


def test_a_first_run_without_a_single_row_is_no_success(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "page.jpg").write_bytes(HTML)
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    assert run_here(*command).code == 1
    assert not (tmp_path / "out" / "_SUCCESS").exists()


def test_retried_successes_do_not_hide_new_failures(night: Night) -> None:
    """30 known errors that work now, and 10 new images that do not: 10 of 10 failed."""
    for path in night.images[:30]:
        night.replace(path, HTML)
    assert night.sync("--max_error_rate", 1).code == 0
    for path, content in zip(night.images[:30], night.contents, strict=False):
        night.replace(path, content)
    for number in range(10):
        (night.images[0].parent / f"new-{number}.png").write_bytes(HTML)
    failed = night.sync("--retry_errors")
    assert failed.code == 1
    assert "10 of 10 images that were tried are errors" in failed.err


@pytest.mark.parametrize("flags", [(), ("--retry_errors",)])
def test_an_error_row_whose_image_was_repaired_is_tried_again_in_every_mode(
    night: Night, flags: tuple[str, ...]
) -> None:
    night.replace(night.images[7], HTML)
    assert night.sync().code == 0
    assert len(night.rows()) == IMAGES - 1
    night.replace(night.images[7], night.contents[7])
    done = night.run(*night.command, *flags)
    assert done.code == 0 and "1 errors to try again" in done.err
    assert len(night.rows()) == IMAGES


def test_what_could_not_be_read_for_a_passing_reason_is_tried_again_by_the_next_run(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = night.images[0].with_name("new.png")
    new.write_bytes(night.contents[0])
    with monkeypatch.context() as away:
        away.setattr("transforms.storage.retries.FIRST_WAIT_SECONDS", 0.0)
        read = open

        def unreachable(path: object, *args: object, **kwargs: object):
            if str(path) == str(new):
                raise TimeoutError(110, "Connection timed out")
            return read(path, *args, **kwargs)

        away.setattr("builtins.open", unreachable)
        assert "1 errors now" in night.run(*night.command).out
    done = night.run(*night.command)
    assert done.code == 0 and "1 errors to try again" in done.err
    assert len(night.rows()) == IMAGES + 1


# Starting anew


def test_readers_have_the_old_result_until_the_new_one_is_whole(
    night: Night, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, rows = night.state(), night.rows()
    anew = [*night.command, "--image_size", "16x16", "--top_k", 0][:-2]
    anew += ["--pixels", "uint8", "--overwrite"]
    with monkeypatch.context() as broken:
        broken.setattr("pipeline.outcome.conclude", lambda *_: 1 / 0)
        assert night.run(*anew).code == 1
    assert night.state() == before
    pd.testing.assert_frame_equal(night.rows(), rows)
    done = night.run(*anew)
    assert done.code == 0, done.err
    assert f"{IMAGES} were computed by a run that was interrupted" in done.err
    assert list(night.rows().index) == list(rows.index)
    assert night.report()["fingerprint"]["pixels"] == "uint8"
    assert night.state().keys().isdisjoint(before.keys() - {"_SUCCESS", "_snapshot.json"})


def test_an_overwriting_run_is_not_given_up_in_silence(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("pipeline.outcome.conclude", lambda *_: 1 / 0)
        assert night.run(*night.command, "--overwrite").code == 1
    before = night.state()
    done = night.run(*night.command)
    assert done.code == 0, done.err
    assert f"dropped: {IMAGES} images that an interrupted --overwrite had computed" in done.err
    assert night.state() == before


def test_what_another_overwriting_run_has_left_is_not_taken(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr("pipeline.outcome.conclude", lambda *_: 1 / 0)
        assert night.run(*night.command, "--pixels", "uint8", "--overwrite").code == 1
    before = night.state()
    assert "40 unchanged" in night.run(*night.command, "--dry_run").err
    assert list((night.out / "_staging").iterdir())
    done = night.run(*night.command)
    assert done.code == 0 and "other settings left there is dropped" in done.err
    assert night.state() == before
    assert not (night.out / "_staging").exists()


def test_a_training_epoch_reads_on_while_nights_go_by(night: Night) -> None:
    epoch = open_features(str(night.out))
    rows = epoch.to_table()
    night.replace(night.images[0], night.contents[1])
    assert night.sync().code == 0
    assert epoch.to_table().equals(rows)
    assert len(night.rows()) == IMAGES, "who lists the directory does not see them"
    night.replace(night.images[0], night.contents[2])
    assert night.sync("--keep_snapshots", 0).code == 0
    assert not (night.out / "_previous").exists()
    with pytest.raises(FileNotFoundError):
        epoch.to_table()


# What a review found


@pytest.mark.parametrize("flags", [("--retry_errors",), ("--retry_errors", "--overwrite")])
def test_errors_that_wait_in_staging_are_tried_again_when_asked_for(
    night: Night, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    """The images are the same; what made them errors was something else."""
    for number, path in enumerate(night.images):
        night.replace(path, night.contents[(number + 1) % IMAGES])
    with monkeypatch.context() as broken:
        broken.setattr("transforms.images.read_ahead.decode_image", lambda *_: 1 / 0)
        assert night.sync().code == 1
    done = night.sync(*flags)
    assert done.code == 0, done.err
    assert len(night.rows()) == IMAGES


def test_the_loss_of_all_rows_is_no_success_however_few_there_are(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, run_here: Run
) -> None:
    images = write_random_images(tmp_path / "in", 9)
    command = ["--input", tmp_path / "in", "--output", tmp_path / "out", "--model", tiny_model]
    command += ["--mode", "sync"]
    assert run_here(*command).code == 0
    for path in images:
        path.write_bytes(HTML)
    assert run_here(*command).code == 1
    assert len(pd.read_parquet(tmp_path / "out")) == 9


def test_what_stays_unreadable_makes_no_new_snapshot(
    night: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = night.images[0].with_name("new.png")
    new.write_bytes(night.contents[0])
    monkeypatch.setattr("transforms.storage.retries.FIRST_WAIT_SECONDS", 0.0)
    read = open

    def unreachable(path: object, *args: object, **kwargs: object):
        if str(path) == str(new):
            raise TimeoutError(110, "Connection timed out")
        return read(path, *args, **kwargs)

    monkeypatch.setattr("builtins.open", unreachable)
    assert night.sync().code == 0
    before = night.state()
    again = night.sync()
    assert again.code == 0 and "1 errors to try again" in again.err
    assert night.state() == before
    assert not (night.out / "_staging").exists()


def test_compact_publishes_nothing_that_a_run_did_not(night: Night) -> None:
    for number in range(20):
        (night.images[0].parent / f"new-{number}.png").write_bytes(HTML)
    assert night.run(*night.command).code == 1
    before = night.state()
    assert compact.main([str(night.out), "--rows_per_file", "4096"]) == 2
    assert night.state() == before


def test_a_part_that_a_late_worker_commits_again_is_taken_out(night: Night) -> None:
    """Its images lie in other parts by now, as the shards were made anew."""
    name = sorted(night.out.glob("part-*"))[0].name
    made = copy_parts([str(night.out / name)], str(night.out / "_late"), (), "late")
    assert made is not None
    late = night.out / f"part-{made.shard}.parquet"
    (night.out / "_late" / f"part-{made.shard}.parquet").rename(
        late.with_name(f"part-{made.shard}.parquet")
    )
    (night.out / "_late").rmdir()
    done = night.run(*night.command)
    assert done.code == 0, done.err
    assert len(night.rows()) == IMAGES
    assert night.sync().code == 0


def test_a_wrong_folder_that_failed_does_not_stay_in_the_way(night: Night) -> None:
    before = night.state()
    wrong = night.images[0].parents[2] / "wrong"
    wrong.mkdir()
    for number in range(20):
        (wrong / f"{number}.png").write_bytes(HTML)
    assert night.run(*night.command, "--input", night.images[0].parents[1], wrong).code == 1
    for flags in ((), ("--mode", "sync", "--max_gone_rate", 0)):
        done = night.run(*night.command, *flags)
        assert done.code == 0, done.err
    assert len(night.rows()) == IMAGES
    assert load_features(str(night.out)).num_rows == IMAGES
    assert night.state().keys() == before.keys()


@pytest.mark.parametrize("content", ["garbage", '{"generation": "x", "checksums": []}'])
def test_a_damaged_snapshot_is_one_line_with_what_to_do(
    night: Night, content: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = night.out / "_snapshot.json"
    path.write_text(content)
    refused = night.sync()
    assert refused.code == 2 and refused.err.splitlines()[-1].endswith(
        "delete it, and the next run writes it anew"
    )
    assert verify.main([str(night.out), "--sample", "0"]) == 2
    path.unlink()
    assert night.sync().code == 0
    night.verified(capfd)


def test_a_damaged_journal_is_told_by_verify(night: Night) -> None:
    (night.out / "_publish.json").write_text("garbage")
    assert verify.main([str(night.out), "--sample", "0"]) == 2


def test_compact_takes_a_damaged_record_of_the_run_as_it_is(night: Night) -> None:
    (night.out / "_run.json").write_text("garbage")
    assert compact.main([str(night.out), "--rows_per_file", "4096"]) == 0
    assert len(night.rows()) == IMAGES
