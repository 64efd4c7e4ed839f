"""Files on any of Beam's filesystems: read, listed, committed in one step, and tried again."""

from transforms.storage.changes import delete, move, remove_if_empty
from transforms.storage.commits import (
    TEMPORARY_PREFIX,
    PendingFile,
    write_atomically,
    write_text,
)
from transforms.storage.files import (
    StoredFile,
    arrow_input,
    checksum,
    exists,
    find,
    list_files,
    list_names,
    match,
    match_below,
    modified,
    open_input,
    opened_version,
    read,
    version,
)
from transforms.storage.paths import (
    UnusableFileError,
    absolute,
    is_local,
    join,
    open_unlinked,
    read_unlinked,
)

__all__ = [
    "TEMPORARY_PREFIX",
    "PendingFile",
    "StoredFile",
    "UnusableFileError",
    "absolute",
    "arrow_input",
    "checksum",
    "delete",
    "exists",
    "find",
    "is_local",
    "join",
    "list_files",
    "list_names",
    "match",
    "match_below",
    "modified",
    "move",
    "open_input",
    "open_unlinked",
    "opened_version",
    "read",
    "read_unlinked",
    "remove_if_empty",
    "version",
    "write_atomically",
    "write_text",
]
