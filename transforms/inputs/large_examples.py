"""Large `tf.Example`s, cut down to the features that are wanted before they become objects.

As it is stored a number may take one byte and an empty string two; as objects they take 8 to 100.
So of a large record only what is asked for is unpacked, and only if it is an image or a list of
ordinary length. The wire format: https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from transforms.errors import RecordError

# A record up to this size is taken as it is. Of a larger one this is the most that a list takes.
PLAIN_BYTES = 2**20
_MAX_VALUES = 1000  # of a longer list of strings
_MAX_FIELDS = 100_000

_BYTES_LIST, _FLOAT_LIST, _INT64_LIST = 1, 2, 3


class OverlongListError(RecordError):
    """A feature is a list that is longer than any label, box or mask."""


def with_features(record: bytes, names: Collection[str] | None) -> bytes | None:
    """A serialised Example with these features, and few others; None if the record is none.

    Args:
      record: a serialised Example.
      names: the features that are wanted; None: all but overlong ones.

    Raises:
      OverlongListError: one of them is a list of more than a megabyte.
      RecordError: the record has more parts than any Example.
    """
    walk = _Walk(record)
    entries: list[bytes | memoryview] = []
    view = memoryview(record)
    dropped = 0
    wanted = None if names is None else {name.encode() for name in names}
    try:
        for example, start, end in walk.fields(0, len(record)):
            if example != 1:
                continue
            for features, entry, entry_end in walk.fields(start, end):
                if features != 1:
                    continue
                key, values = b"", []
                for field, at, to in walk.fields(entry, entry_end):
                    if field == 1:
                        key = record[at:to]
                    elif field == 2:
                        values.append((at, to))
                if wanted is None or key in wanted:
                    try:
                        for at, to in values:
                            _check_lists(walk, at, to, key)
                    except OverlongListError:
                        if wanted is not None:
                            raise
                        dropped += entry_end - entry
                        continue
                    entries += [b"\x0a", _varint(entry_end - entry), view[entry:entry_end]]
                else:
                    dropped += entry_end - entry
    except (IndexError, ValueError):
        return None
    if dropped <= PLAIN_BYTES:  # as nearly always
        return record
    return b"".join([b"\x0a", _varint(sum(map(len, entries))), *entries])


def _check_lists(walk: _Walk, start: int, end: int, name: bytes) -> None:
    """Refuses a Feature with a long list, unless it is of a few strings, as an image is."""
    if end - start <= PLAIN_BYTES:
        return
    for kind, at, to in walk.fields(start, end):
        if to - at <= PLAIN_BYTES:
            continue
        if kind == _BYTES_LIST and sum(1 for _ in walk.fields(at, to)) <= _MAX_VALUES:
            continue
        if kind in (_BYTES_LIST, _FLOAT_LIST, _INT64_LIST):
            shown = name[:100].decode("utf-8", "backslashreplace")
            raise OverlongListError(
                f"feature {shown!r} is a list of {to - at:,} bytes, over {PLAIN_BYTES:,}"
            )


class _Walk:
    """Reads a serialised message, and not more fields than an Example has."""

    def __init__(self, record: bytes):
        self._record = record
        self._left = _MAX_FIELDS

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Number, first byte and end of each field that is text or a message.

        Raises:
          IndexError, ValueError: the message is none.
          RecordError: there are too many.
        """
        while at < end:
            self._left -= 1
            if self._left < 0:
                raise RecordError(f"the Example has more than {_MAX_FIELDS:,} parts")
            tag, at = self._number(at)
            kind = tag & 7
            if kind == 0:
                _, at = self._number(at)
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
            elif kind == 2:
                length, at = self._number(at)
                if at + length > end:
                    raise ValueError("a field is longer than its message")
                yield tag >> 3, at, at + length
                at += length
            else:
                raise ValueError(f"wire type {kind}")
        if at > end:
            raise ValueError("a field is longer than its message")

    def _number(self, at: int) -> tuple[int, int]:
        """A varint, and where it ends."""
        value = 0
        for shift in range(0, 70, 7):
            byte = self._record[at]
            at += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, at
        raise ValueError("a number of more than 10 bytes")


def _varint(value: int) -> bytes:
    """A number as protobuf writes it.

    >>> _varint(300)
    b'\\xac\\x02'
    """
    written = bytearray()
    while value > 127:
        written.append(value & 127 | 128)
        value >>= 7
    written.append(value)
    return bytes(written)
