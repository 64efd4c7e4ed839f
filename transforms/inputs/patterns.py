"""The files that an input stands for: a file, a directory, a glob, on any of Beam's filesystems.

Nothing is dropped silently: what is there but cannot be used is a `FoundFile` with a `problem`, or
one whose reading will say what is wrong.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import glob
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator

from transforms import storage
from transforms.errors import Parameter, UserError, one_line


@dataclasses.dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as the listing shows it.

    Attributes:
      uri: absolute path or `scheme://…`; always valid UTF-8.
      size: in bytes; None where it cannot be seen.
      version: size and modification time, generation or ETag, or "".
      problem: why it cannot be used, or None.
      path: the name as the operating system has it, which may not be UTF-8.
      in_directory: found by searching a directory, not named by the input itself.
      unlisted: it is a directory whose files cannot be seen.
      hidden: it is a directory that was not looked into, found below one that was searched.
    """

    uri: str
    size: int | None = None
    version: str = ""
    problem: str | None = None
    path: str = ""
    in_directory: bool = False
    unlisted: bool = False
    hidden: bool = False


# Not hidden by its name, but it holds a tool's copies of the images beside it, as hidden ones do.
_OF_TOOLS = frozenset({"@eaDir"})


def expand(pattern: str) -> Iterator[FoundFile]:
    """The files that one input stands for.

    A name that exists is taken literally, whatever characters it has. In globs, `*` and `?` stay
    within a directory and `**` crosses them; a directory that a glob matches is searched. Hidden
    directories below one that is searched are not looked into, unless the glob says their names.

    Raises:
      UserError: the filesystem is not known or cannot be listed.
    """
    subject = Parameter("inputs", pattern)
    if re.match(r"[A-Za-z0-9]{2,}:/[^/]", pattern) and not os.path.lexists(pattern):
        raise UserError("a URI has two slashes after its scheme", subject=subject)
    path = storage.absolute(pattern)
    if storage.is_local(path):
        if os.path.isdir(path):
            return _walk(path)
        if os.path.lexists(path):
            return iter([_local_file(path)])
        typed = os.path.normpath(os.path.expanduser(pattern)).split("/")
        fixed = next((at for at, part in enumerate(typed) if glob.has_magic(part)), len(typed) - 1)
        return _local_glob(
            os.path.abspath("/".join(typed[:fixed]) + "/" if fixed else "."), typed[fixed:]
        )
    try:
        literal = None if path.endswith("/") else storage.find(path)
        if literal:
            return iter(_remote_files([(path, literal)]))
        below = _remote_files(storage.match_below(path))
        if below or not glob.has_magic(path):
            return _in_directory(path, below)
        matched = _remote_files(storage.match(path))
        return (file for file in matched if _store_name_matches(file.uri, path))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot be listed: {one_line(error)}", subject=subject) from error


def _remote_files(found: Iterable[tuple[str, storage.StoredFile]]) -> list[FoundFile]:
    return [
        FoundFile(path, file.size, file.version, path=path)
        for path, file in found
        if not path.endswith("/")
    ]


def _in_directory(directory: str, files: list[FoundFile]) -> Iterator[FoundFile]:
    """The files of a store below a directory; of a hidden one its name, once."""
    start = len(directory.rstrip("/")) + 1
    hidden: set[str] = set()
    for file in files:
        *names, _ = file.uri[start:].split("/")
        at = next((at for at, name in enumerate(names) if is_hidden_directory(name)), None)
        if at is None:
            yield dataclasses.replace(file, in_directory=True)
            continue
        path = file.uri[:start] + "/".join(names[: at + 1])
        if path not in hidden:
            hidden.add(path)
            yield _hidden(path)


def _store_name_matches(uri: str, pattern: str) -> bool:
    """Whether a name that a store's glob matches is matched by a shell's, too: no hidden ones."""
    parts = pattern.split("/")
    if any(part.startswith(".") and glob.has_magic(part) for part in parts):
        return True
    said = {part for part in parts if not glob.has_magic(part)}
    return not any(name.startswith(".") and name not in said for name in uri.split("/"))


def _local_glob(directory: str, parts: list[str]) -> Iterator[FoundFile]:
    """The files below `directory` that a glob's components match.

    Not `glob.glob`: with `**` it follows a circle of links until the operating system stops it.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        said = any(part.startswith(".") for part in rest)
        for file in _walk(directory, lambda name: not said and name.startswith(".")):
            names = os.path.relpath(file.path, directory).split("/")
            if not file.hidden and _matches(names, parts):
                yield dataclasses.replace(file, in_directory=False)
        return
    try:
        with os.scandir(directory) as entries:
            found = sorted((e for e in entries if _name_matches(e.name, part)), key=_entry_name)
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        yield _unlisted(directory, error)
        return
    for entry in found:
        if rest and _is_directory(entry):
            yield from _local_glob(entry.path, rest)
        elif not rest and _is_directory(entry):
            yield from _walk(entry.path)
        elif not rest:
            yield _local_file(entry.path, entry)


def _matches(names: list[str], parts: list[str]) -> bool:
    """Whether a glob's components match a path's names; `**` stands for any number of them."""
    if not parts or not names:
        return not parts and not names
    part, rest = parts[0], parts[1:]
    if part != "**":
        return _name_matches(names[0], part) and _matches(names[1:], rest)
    if not rest:
        return not any(name.startswith(".") for name in names)
    if _matches(names, rest):
        return True
    return not names[0].startswith(".") and _matches(names[1:], parts)


def _name_matches(name: str, part: str) -> bool:
    """As in a shell: a hidden name is matched only by a pattern that begins with a dot."""
    return fnmatch.fnmatchcase(name, part) and (part.startswith(".") or not name.startswith("."))


def is_hidden_directory(name: str) -> bool:
    """Whether a directory of this name is passed over when one above it is searched.

    >>> [name for name in ("2026", ".thumbnails", "@eaDir") if is_hidden_directory(name)]
    ['.thumbnails', '@eaDir']
    """
    return name.startswith(".") or name in _OF_TOOLS


def _walk(
    directory: str, is_hidden: Callable[[str], bool] = is_hidden_directory
) -> Iterator[FoundFile]:
    """All files below a local directory.

    Links are followed, but no directory is entered twice; one that is also linked is listed under
    its own name, as links are followed last.

    Args:
      directory: where to begin, whatever its name.
      is_hidden: whether a directory below it is not looked into, by its name.
    """
    entered: set[tuple[int, int]] = set()
    directories = [directory]
    links: list[str] = []
    while directories or links:
        path = directories.pop() if directories else links.pop()
        try:
            status = os.stat(path)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                for entry in sorted(entries, key=_entry_name, reverse=True):
                    if not _is_directory(entry):
                        file = _local_file(entry.path, entry)
                        yield dataclasses.replace(file, in_directory=True)
                    elif is_hidden(entry.name):
                        yield _hidden(entry.path)
                    elif entry.is_symlink():
                        links.append(entry.path)
                    else:
                        directories.append(entry.path)
        except OSError as error:
            yield _unlisted(path, error)


def _unlisted(path: str, error: OSError) -> FoundFile:
    problem = f"the directory cannot be listed: {error.strerror}"
    return FoundFile(_shown(path), problem=problem, path=path, unlisted=True)


def _hidden(path: str) -> FoundFile:
    return FoundFile(_shown(path), path=path, in_directory=True, hidden=True)


def _entry_name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _is_directory(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads nowhere
        return False


def _local_file(path: str, entry: os.DirEntry[str] | None = None) -> FoundFile:
    uri = _shown(path)
    if uri != path:
        return FoundFile(uri, problem="the file's name is not UTF-8; rename it", path=path)
    try:
        status = entry.stat() if entry else os.stat(path)
    except OSError:
        return FoundFile(uri, path=path)  # reading it says what is wrong
    if not stat.S_ISREG(status.st_mode):
        return FoundFile(uri, problem="not a regular file", path=path)
    return FoundFile(uri, status.st_size, storage.version(status), path=path)


def _shown(path: str) -> str:
    """The path as valid UTF-8, with `\\xNN` for bytes that are not."""
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    return path if shown == path else shown  # one string for each of millions of files
