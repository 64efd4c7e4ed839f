"""Brings a published model, given by a handle, to this machine: once, whole, and checked.

A handle is what names a model:

| handle | the model is |
|---|---|
| a local directory or `.keras` file | used where it is |
| a local `.tar.gz`, `.tgz` or `.tar` file | unpacked into the cache |
| `gs://…`, `s3://…`, `hdfs://…`: a directory or an archive | copied through Beam's filesystems |
| `http(s)://….tar.gz` (`.tgz`, `.tar`) | downloaded |
| any other `http(s)://…`, such as `https://tfhub.dev/google/…/1` | downloaded as TF Hub does |
| `[kaggle://]owner/model/framework/variation[/version]` | brought by the package `kagglehub` |

`transforms.models.copies` keeps what was staged.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import re
import urllib.parse
from collections.abc import Callable

from transforms import storage
from transforms.errors import Message, Parameter, Piece, UserError
from transforms.machine import entries
from transforms.machine.cache import cache_path
from transforms.models import archives, copies, downloads
from transforms.storage.secrets import masked

ARCHIVE_SUFFIXES = (".tar.gz", ".tgz", ".tar")

_LOGGER = logging.getLogger(__name__)

_WHAT_THERE_CAN_BE = (
    "a model is a SavedModel's directory, a .keras file, an archive (.tar.gz, .tgz, .tar), one of "
    "these directories or archives at gs://, s3:// or hdfs://, an http(s):// URL of an archive or "
    "of TF Hub's kind, or a Kaggle handle owner/model/framework/variation[/version]"
)
_KAGGLE_HANDLE = re.compile(r"(?:kaggle://)?((?:\w[\w.-]*/){3}\w[\w.-]*(?:/\d+)?)/?")

_Fetch = Callable[[str, str, dict[str, str]], downloads.Download | None]
"""From a URI into a work directory, as `archive` or `tree`; None if validators still hold."""


@dataclasses.dataclass(frozen=True)
class Staged:
    """A model on this machine.

    Attributes:
      path: absolute, of a directory or of a `.keras` file.
      sha256: with which another machine gets the same model for this handle; None for one that is
        used where it is.
    """

    path: str
    sha256: str | None = None


def stage(
    handle: str,
    sha256: str | None = None,
    cache_dir: str | None = None,
    private_redirects: bool = False,
) -> str:
    """The path of `staged`."""
    return staged(handle, sha256, cache_dir, private_redirects).path


def staged(
    handle: str,
    sha256: str | None = None,
    cache_dir: str | None = None,
    private_redirects: bool = False,
) -> Staged:
    """The model that `handle` means, staged if it is not here yet.

    A handle that was staged before is asked for changes only; if it cannot be reached, the copy
    that is here is used and a warning is logged. Any number of processes may stage the same model
    at the same moment: each works in a directory of its own, and the first to be done wins.

    Args:
      handle: see the module's docstring.
      sha256: the only digest that is accepted: of an archive, its bytes'; of a directory or a
        `.keras` file, `files_sha256`. A pinned archive that is in the cache is used without
        asking where it came from.
      cache_dir: by default the one of `builtin.exported`.
      private_redirects: whether a server on a public address may redirect to one of this machine,
        its link or a private network; none may redirect from HTTPS to HTTP.

    Raises:
      UserError: with the handle as its subject; nothing has been staged.
    """
    models, subject = "the cache", Parameter("model", handle)
    try:
        models = cache_path("models", root=cache_dir)
        return _stage(handle, _checked_pin(sha256), models, private_redirects)
    except _StagingError as error:
        raise UserError(*error.message.pieces, subject=subject) from error
    except downloads.DownloadError as error:
        # Not from it: the errors that caused it tell URLs as they are, with their signatures.
        raise UserError(_without_handle(error, handle), subject=subject) from None
    except archives.ArchiveError as error:
        raise UserError(str(error), subject=subject) from error
    except OSError as error:
        raise UserError(f"cannot be staged in {models}: {error}", subject=subject) from error


class _StagingError(Exception):
    """What is wrong, without the handle."""

    def __init__(self, *pieces: Piece):
        self.message = Message(pieces)
        super().__init__(str(self.message))


def _without_handle(error: downloads.DownloadError, handle: str) -> str:
    """What is wrong, and with which URI if that is another one than the handle."""
    return error.problem if error.uri == handle else str(error)


def _stage(handle: str, pin: str | None, models: str, private_redirects: bool) -> Staged:
    if not handle:
        raise _StagingError(f"the name is empty; {_WHAT_THERE_CAN_BE}")
    kaggle = _KAGGLE_HANDLE.fullmatch(handle)
    scheme = handle.partition("://")[0].lower()
    if storage.is_local(handle):
        path = storage.absolute(handle)
        if os.path.isdir(path) or (path.endswith(".keras") and os.path.isfile(path)):
            return _pinned_in_place(path, pin)
        if os.path.exists(path):
            return _stage_local_archive(path, pin, models)
        if kaggle and not path.endswith((".keras", *ARCHIVE_SUFFIXES)):
            return _pinned_in_place(_kaggle_download(kaggle[1]), pin)
        raise _StagingError(f"no such file or directory; {_WHAT_THERE_CAN_BE}")
    if scheme == "kaggle":
        if kaggle is None:
            raise _StagingError("not kaggle://owner/model/framework/variation[/version]")
        return _pinned_in_place(_kaggle_download(kaggle[1]), pin)
    if handle.lower().endswith(".keras"):
        raise _StagingError("a .keras file must be on a local disk; copy it there first")
    if scheme in ("http", "https"):
        fetch_url = functools.partial(_fetch_url, private_redirects)
        return _stage_remote(handle, archive_url(handle), pin, models, fetch_url)
    if not downloads.is_known_scheme(handle):
        raise _StagingError(
            f"{scheme}:// is not known here, or its package or options are missing; "
            + _WHAT_THERE_CAN_BE
        )
    fetch = _fetch_file if _is_archive_name(handle) else _fetch_directory
    return _stage_remote(handle, handle.rstrip("/"), pin, models, fetch)


def archive_url(url: str) -> str:
    """Where an `http(s)` handle's archive is: TF Hub's URLs get what asks for one.

    >>> archive_url("https://tfhub.dev/google/imagenet/mobilenet_v2_035_128/feature_vector/5")
    'https://tfhub.dev/google/imagenet/mobilenet_v2_035_128/feature_vector/5?tf-hub-format=compressed'
    >>> archive_url("https://example.org/model.tar.gz?token=1")
    'https://example.org/model.tar.gz?token=1'
    """
    try:
        parts = urllib.parse.urlsplit(url)
    except ValueError as error:
        raise _StagingError(f"not a URL: {error}") from error
    if _is_archive_name(parts.path) or "tf-hub-format=" in parts.query:
        return url
    query = f"{parts.query}&tf-hub-format=compressed".lstrip("&")
    return parts._replace(query=query).geturl()


def is_archive(path: str) -> bool:
    """Whether it is a local archive of a model, by its name."""
    return os.path.isfile(path) and _is_archive_name(path)


def _is_archive_name(name: str) -> bool:
    return name.lower().endswith(ARCHIVE_SUFFIXES)


def _checked_pin(sha256: str | None) -> str | None:
    if sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise _StagingError(Parameter("sha256", sha256), " is not 64 hexadecimal digits")
    return sha256.lower() if sha256 else None


def _check_digest(digest: str, pin: str | None) -> None:
    if pin is not None and digest != pin:
        raise _StagingError(
            f"its SHA-256 is {digest}, but ",
            Parameter("sha256"),
            f" is {pin}; nothing has been staged",
        )


def _pinned_in_place(path: str, pin: str | None) -> Staged:
    """A model that is used where it is."""
    if pin is not None:
        _check_digest(entries.tree_sha256(path), pin)
    return Staged(path)


def _kaggle_download(handle: str) -> str:
    try:
        import kagglehub
    except ImportError as error:
        raise _StagingError(
            "no such directory; as a Kaggle Models handle it needs: pip install kagglehub"
        ) from error
    try:
        return kagglehub.model_download(handle)
    except Exception as error:  # its errors have no type in common
        raise _StagingError(f"kagglehub cannot download it: {error}") from error


# Into the cache


def _stage_local_archive(path: str, pin: str | None, models: str) -> Staged:
    if not is_archive(path):
        raise _StagingError(
            f"neither a directory, a .keras file nor an archive; {_WHAT_THERE_CAN_BE}"
        )
    digest = storage.checksum(path).removeprefix("sha256:")
    _check_digest(digest, pin)
    with copies.work_directory(models) as work:
        return Staged(copies.keep_archive(path, work, models, digest), digest)


def _stage_remote(handle: str, uri: str, pin: str | None, models: str, fetch: _Fetch) -> Staged:
    last = downloads.Download(pin, {}) if pin else copies.read_index(models, handle)
    known = copies.pinned_model if pin else copies.kept_model
    here = known(models, last.sha256) if last else None
    if last and here and pin:
        return Staged(here, pin)
    with copies.work_directory(models) as work:
        try:
            fetched = fetch(uri, work, last.validators if last and here else {})
        except downloads.DownloadError as error:
            cause = _without_handle(error, handle)
            if last and here and isinstance(error, downloads.UnreachableError):
                told = masked(f"model {handle}: {cause}; using the copy from before")
                _LOGGER.warning("%s", told)
                return Staged(here, last.sha256)
            if last and os.path.lexists(place := copies.kept_place(models, last.sha256)):
                raise _StagingError(
                    f"{cause}; {place}, the copy from before, is damaged: it is staged anew as "
                    "soon as the model can be had"
                ) from error
            raise
        if fetched is None:
            assert last is not None and here is not None
            return Staged(here, last.sha256)
        _check_digest(fetched.sha256, pin)
        archive, tree = os.path.join(work, "archive"), os.path.join(work, "tree")
        if os.path.isdir(tree):
            here = copies.keep_tree(tree, models, fetched.sha256)
        else:
            here = copies.keep_archive(archive, work, models, fetched.sha256)
    copies.write_index(models, handle, fetched)
    return Staged(here, fetched.sha256)


def _fetch_url(
    private_redirects: bool, url: str, work: str, validators: dict[str, str]
) -> downloads.Download | None:
    path = os.path.join(work, "archive")
    return downloads.download_url(url, path, validators, private_redirects)


def _fetch_file(uri: str, work: str, validators: dict[str, str]) -> downloads.Download | None:
    return downloads.download_file(uri, os.path.join(work, "archive"), validators)


def _fetch_directory(uri: str, work: str, validators: dict[str, str]) -> downloads.Download | None:
    tree = os.path.join(work, "tree")
    found = downloads.download_directory(uri, tree, validators)
    return None if found is None else downloads.Download(entries.tree_sha256(tree), found)
