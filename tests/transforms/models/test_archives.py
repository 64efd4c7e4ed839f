"""Archives: a whole one is unpacked, and no other can write a byte outside its directory."""

from __future__ import annotations

import gzip
import io
import pathlib
import random
import tarfile

import pytest

from transforms.models import archives
from transforms.models.archives import ArchiveError, Limits

MODEL = {"saved_model.pb": b"graph", "variables/variables.index": b"index" * 1000}


def tar_bytes(*members: tarfile.TarInfo | tuple[str, bytes], gzipped: bool = True) -> bytes:
    """An archive of headers without content, and of files given by name and content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if gzipped else "w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                name, content = member
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def symlink(name: str, target: str) -> tarfile.TarInfo:
    return special(name, tarfile.SYMTYPE, target)


def unpack(tmp_path: pathlib.Path, content: bytes, limits: Limits | None = None) -> pathlib.Path:
    """Unpacks an archive of this content, and sees that nothing else is written below tmp_path."""
    archive, directory = tmp_path / "model.archive", tmp_path / "deep" / "tree"
    archive.write_bytes(content)
    secret = tmp_path / "deep" / "secret"
    secret.parent.mkdir(exist_ok=True)
    secret.write_bytes(b"mine")
    try:
        archives.unpack(str(archive), str(directory), limits or archives.DEFAULT_LIMITS)
    finally:
        assert sorted(tmp_path.iterdir()) == [tmp_path / "deep", archive]
        assert set(secret.parent.iterdir()) <= {secret, directory}
        assert secret.read_bytes() == b"mine"
    return directory


def files(directory: pathlib.Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def refusal(tmp_path: pathlib.Path, content: bytes, limits: Limits | None = None) -> str:
    with pytest.raises(ArchiveError) as refused:
        unpack(tmp_path, content, limits)
    return str(refused.value)


# What is unpacked


@pytest.mark.parametrize("gzipped", [True, False])
def test_all_files_are_unpacked(tmp_path: pathlib.Path, gzipped: bool):
    directory = unpack(tmp_path, tar_bytes(*MODEL.items(), gzipped=gzipped))
    assert files(directory) == MODEL


def test_what_tar_makes_of_a_directory_is_unpacked(tmp_path: pathlib.Path):
    source = tmp_path / "source"
    (source / "variables").mkdir(parents=True)
    for name, content in MODEL.items():
        (source / name).write_bytes(content)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(source, arcname=".")
    (tmp_path / "here").mkdir()
    assert files(unpack(tmp_path / "here", buffer.getvalue())) == MODEL


def test_links_to_files_of_the_archive_are_kept(tmp_path: pathlib.Path):
    directory = unpack(
        tmp_path,
        tar_bytes(
            symlink("variables/again", "../saved_model.pb"),
            symlink("twice", "variables/again"),
            *MODEL.items(),
            special("hard", tarfile.LNKTYPE, "variables/variables.index"),
        ),
    )
    linked = {
        "variables/again": b"graph",
        "twice": b"graph",
        "hard": MODEL["variables/variables.index"],
    }
    assert files(directory) == MODEL | linked


def test_permissions_of_the_archive_are_not_taken_over(tmp_path: pathlib.Path):
    info = tarfile.TarInfo("saved_model.pb")
    info.mode = 0o6000
    (tmp_path / "plain").touch()
    expected = (tmp_path / "plain").stat().st_mode
    (tmp_path / "plain").unlink()
    directory = unpack(tmp_path, tar_bytes(info))
    assert (directory / "saved_model.pb").stat().st_mode == expected


# What is refused


@pytest.mark.parametrize(
    ("members", "name", "reason"),
    [
        ([("/etc/model", b"x")], "/etc/model", "an absolute path"),
        ([("../secret", b"x")], "../secret", "its path has '..' in it"),
        ([("variables/../../secret", b"x")], "variables/../../secret", "its path has '..' in it"),
        ([symlink("out", "../secret")], "out", "a link to '../secret', which is outside"),
        ([symlink("a/out", "../../secret")], "a/out", "which is outside the archive"),
        ([symlink("out", "/etc/passwd")], "out", "a link to '/etc/passwd', which is outside"),
        ([symlink("out", "a/../../secret")], "out", "which is outside the archive"),
        ([symlink("../out", "tree/x")], "../out", "its path has '..' in it"),
        ([symlink("itself", "itself")], "itself", "which is no file of the archive"),
        ([symlink("nowhere", "nothing")], "nowhere", "a link to 'nothing', which is no file"),
        ([("a/x", b""), symlink("a/up", ".")], "a/up", "which is no file of the archive"),
        ([symlink("a", "."), ("a/../../secret", b"x")], "a/../../secret", "'..'"),
        ([("b/x", b""), symlink("a", "b"), ("a/x", b"x")], "a", "has its place already"),
        (
            [symlink("x/y/a", "../.."), symlink("x/y/a/b", "../../../secret")],
            "x/y/a",
            "has its place already",
        ),
        ([special("hard", tarfile.LNKTYPE, "../secret")], "hard", "which is outside the archive"),
        ([special("hard", tarfile.LNKTYPE, "/etc/passwd")], "hard", "which is outside"),
        ([special("hard", tarfile.LNKTYPE, "later")], "hard", "which is no file before it"),
        (
            [symlink("soft", "../secret"), special("hard", tarfile.LNKTYPE, "soft")],
            "hard",
            "which is no file before it",
        ),
        ([special("pipe", tarfile.FIFOTYPE)], "pipe", "a device, fifo, sparse or other special"),
        ([special("null", tarfile.CHRTYPE)], "null", "a device, fifo, sparse or other special"),
        ([special("disk", tarfile.BLKTYPE)], "disk", "a device, fifo, sparse or other special"),
        ([special("odd", b"Z")], "odd", "a device, fifo, sparse or other special"),
        ([("a", b"1"), ("a", b"2")], "a", "another member has its place already"),
        ([("a", b"1"), ("./a", b"2")], "./a", "another member has its place already"),
        ([("a", b"1"), ("a/b", b"2")], "a/b", "another member has its place already"),
        ([("a/b", b"1"), ("a", b"2")], "a", "another member has its place already"),
        ([("a", b"1"), symlink("a", "b"), ("b", b"")], "a", "another member has its place already"),
        ([(".", b"1")], ".", "another member has its place already"),
    ],
)
def test_a_harmful_member_is_refused_by_name(
    tmp_path: pathlib.Path,
    members: list[tarfile.TarInfo | tuple[str, bytes]],
    name: str,
    reason: str,
):
    message = refusal(tmp_path, tar_bytes(*members))
    assert message.startswith(f"member {name!r}: ")
    assert reason in message


def test_a_sparse_file_is_refused(tmp_path: pathlib.Path):
    """One header can stand for terabytes of zeros, which no count of the archive's bytes sees."""
    info = tarfile.TarInfo("zeros")
    info.pax_headers = {"GNU.sparse.major": "0", "GNU.sparse.minor": "1"}
    info.pax_headers |= {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(2**40)}
    assert "member 'zeros': a device, fifo, sparse" in refusal(tmp_path, tar_bytes(info))


# Bombs

TIGHT = Limits(max_ratio=10, free_bytes=50_000, max_bytes=200_000, max_members=20)


def test_a_bomb_is_refused_before_more_than_the_limit_is_written(tmp_path: pathlib.Path):
    message = refusal(tmp_path, tar_bytes(("a", b"ok"), ("bomb", bytes(10**6))), TIGHT)
    assert message.startswith("member 'bomb': ")
    assert "more than 50,000 bytes" in message
    assert sum(map(len, files(tmp_path / "deep" / "tree").values())) <= 50_000


def test_a_small_archive_may_have_any_ratio(tmp_path: pathlib.Path):
    content = tar_bytes(("zeros", bytes(30_000)))
    assert len(content) * 100 < 30_000
    assert files(unpack(tmp_path, content, TIGHT)) == {"zeros": bytes(30_000)}


def test_an_archive_that_packs_as_models_do_may_be_larger(tmp_path: pathlib.Path):
    weights = random.Random(0).randbytes(100_000)
    content = tar_bytes(("weights", weights))
    assert files(unpack(tmp_path, content, TIGHT)) == {"weights": weights}


def test_no_ratio_allows_more_than_the_largest_size(tmp_path: pathlib.Path):
    content = tar_bytes(("weights", random.Random(0).randbytes(250_000)), gzipped=False)
    assert "more than 200,000 bytes" in refusal(tmp_path, content, TIGHT)


def test_headers_count_too(tmp_path: pathlib.Path):
    bomb = special("x", tarfile.REGTYPE)
    bomb.pax_headers = {"comment": "0" * 10**6}
    assert "more than 50,000 bytes" in refusal(tmp_path, tar_bytes(bomb), TIGHT)


def test_what_follows_the_last_member_counts_too(tmp_path: pathlib.Path):
    content = tar_bytes(("a", b"ok"), gzipped=False) + bytes(10**6)
    assert "more than 50,000 bytes" in refusal(tmp_path, gzip.compress(content, mtime=0), TIGHT)


def test_too_many_members_are_refused(tmp_path: pathlib.Path):
    content = tar_bytes(*((f"file-{number}", b"") for number in range(21)))
    assert refusal(tmp_path, content, TIGHT) == "member 'file-20': more than 20 members"


def test_the_limits_are_those_of_the_documentation():
    gibibyte = 2**30
    assert Limits().unpacked_bytes(1) == gibibyte
    assert Limits().unpacked_bytes(gibibyte // 10) == 100 * (gibibyte // 10)
    assert Limits().unpacked_bytes(10 * gibibyte) == 64 * gibibyte


# Damage

WHOLE = tar_bytes(*MODEL.items(), gzipped=False)
DATA_END = len(WHOLE.rstrip(b"\0")) // 512 * 512 + 512


@pytest.mark.parametrize("kept", [1, 511, 512, 513, 1024, 1536, 2000, DATA_END - 1, DATA_END])
def test_a_truncated_tar_is_refused_even_between_members(tmp_path: pathlib.Path, kept: int):
    assert "truncated or damaged" in refusal(tmp_path, WHOLE[:kept])


@pytest.mark.parametrize("kept", [2, 20, 60, -9, -8, -1])
def test_a_truncated_gzip_is_refused(tmp_path: pathlib.Path, kept: int):
    assert "truncated or damaged" in refusal(tmp_path, gzip.compress(WHOLE, mtime=0)[:kept])


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: pathlib.Path):
    damaged = bytearray(WHOLE)
    damaged[1024 + 10] ^= 1  # in the second member's name
    assert "truncated or damaged: bad checksum" in refusal(tmp_path, bytes(damaged))


def test_damaged_content_fails_gzips_checksum(tmp_path: pathlib.Path):
    packed = bytearray(gzip.compress(WHOLE, 0, mtime=0))
    packed[packed.index(b"graph")] ^= 1
    assert "truncated or damaged: CRC check failed" in refusal(tmp_path, bytes(packed))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "truncated or damaged: empty header"),
        (b"<html>not found</html>" * 100, "not a .tar or .tar.gz archive"),
        (gzip.compress(b"just text", mtime=0), "not a .tar or .tar.gz archive"),
        (bytes(10240), "the archive is empty"),
    ],
)
def test_what_is_no_archive_is_refused(tmp_path: pathlib.Path, content: bytes, reason: str):
    assert reason in refusal(tmp_path, content)


def test_no_damage_leads_to_anything_but_a_refusal(tmp_path: pathlib.Path):
    """Random changes of an archive with every kind of member: refused or harmless, never worse."""
    original = tar_bytes(
        *MODEL.items(),
        ("long/" * 40 + "name", b"x" * 700),
        ("größe", b"y"),
        symlink("soft", "saved_model.pb"),
        special("hard", tarfile.LNKTYPE, "saved_model.pb"),
        gzipped=False,
    ).rstrip(b"\0") + bytes(1024)
    source = random.Random(7)
    refused = 0
    for number in range(100):
        damaged = bytearray(original)
        for _ in range(source.randint(1, 3)):
            damaged[source.randrange(len(damaged))] = source.randrange(256)
        directory = tmp_path / str(number)
        directory.mkdir()
        content = bytes(damaged) if number % 2 else gzip.compress(damaged, mtime=0)
        try:
            unpack(directory, content)
        except ArchiveError:
            refused += 1
    assert refused > 20
