"""PNG: only the chunks that its pixels come from (PNG specification, third edition, chapter 11).

libpng unpacks each compressed text, and keeps notes and profiles that nobody asks for: a file of
10 MB with 1,500 texts keeps a core busy for half a minute. What is left out here changes no pixel:
TensorFlow applies neither gamma nor profile, and drops alpha without blending.
"""

from __future__ import annotations

import struct

from transforms.errors import UnsupportedImageError

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# Each costs a step. Those of a file of 256 MiB have 2.7 kB on average, or more; 8 to 64 are usual.
MAX_CHUNKS = 100_000

_HEAD = struct.Struct(">I4s")
_AROUND = _HEAD.size + 4  # with the checksum
# Transparency: libpng makes an alpha channel of it.
_NEEDED = b"tRNS"
_ANCILLARY = 0x20


def without_notes(data: bytes) -> bytes:
    """A PNG without ancillary chunks but for `tRNS`; as it is where it has none, or is damaged.

    Raises:
      UnsupportedImageError: it has too many chunks.
    """
    kept: list[bytes] = []
    start = at = len(SIGNATURE)
    for _ in range(MAX_CHUNKS):
        if at + _AROUND > len(data):
            break
        length, kind = _HEAD.unpack_from(data, at)
        if kind == b"IEND":  # what comes after it is no chunk
            break
        if kind[0] & _ANCILLARY and kind != _NEEDED and at + _AROUND + length <= len(data):
            kept.append(data[start:at])
            start = at + _AROUND + length
        at += _AROUND + length
    else:
        raise UnsupportedImageError(f"a PNG of more than {MAX_CHUNKS:,} chunks; encode it anew")
    if not kept:
        return data
    return b"".join([SIGNATURE, *kept, data[start:]])
