"""Features that become columns: their types, from a word or from many Examples, and their values.

A value that does not fit its column is null and a warning: it never costs an image.
"""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from transforms.errors import Parameter, UserError

ColumnKind = Literal["string", "binary", "int64", "float32"]

# What a person may call them.
_KINDS: dict[str, ColumnKind] = {
    "string": "string",
    "str": "string",
    "binary": "binary",
    "bytes": "binary",
    "int64": "int64",
    "int": "int64",
    "float32": "float32",
    "float": "float32",
}
_DECLARED = re.compile(r"(?P<name>.+):(?:list(?: of |<)(?P<item>\w+)>?|(?P<one>\w+))")
_NAMES_TOLD = 100
_LISTS = {"int64": "int64_list", "float32": "float_list"}


class MisfitError(ValueError):
    """A value does not fit its column."""


@dataclasses.dataclass(frozen=True)
class KeptColumn:
    """A feature of the Examples that is passed through to the rows.

    Attributes:
      name: of the feature and of the column.
      kind: Arrow type of one value.
      is_list: whether a row holds a list of values instead of one.

    >>> str(KeptColumn("box", "float32", is_list=True))
    'box:list of float32'
    """

    name: str
    kind: ColumnKind
    is_list: bool = False

    def __str__(self) -> str:
        return f"{self.name}:{'list of ' if self.is_list else ''}{self.kind}"


def declared(word: str) -> KeptColumn | str:
    """The column that a word declares, or the name of a feature whose type is to be seen.

    >>> declared("label:int64"), declared("image/text")
    (KeptColumn(name='label', kind='int64', is_list=False), 'image/text')
    >>> str(declared("box:list<float>")), str(declared("mask:bytes"))
    ('box:list of float32', 'mask:binary')
    """
    match = _DECLARED.fullmatch(word)
    kind = _KINDS.get((match["item"] or match["one"]) if match else "")
    return KeptColumn(match["name"], kind, bool(match["item"])) if match and kind else word


def kept_value(column: KeptColumn, features: Any) -> object:
    """A row's value: of one kind, or a list of them; None where the Example lacks the feature.

    Args:
      column: what is wanted.
      features: of an Example.

    Raises:
      MisfitError: there is a value, and it does not fit.
    """
    kind = features[column.name].WhichOneof("kind") if column.name in features else None
    if kind is None:
        return None
    values = getattr(features[column.name], kind).value
    fits = kind == _LISTS.get(column.kind, "bytes_list")
    if column.kind == "float32" and kind == "int64_list":
        fits = all(int(np.float32(value)) == value for value in values)
    if values and not fits:
        raise MisfitError(
            f"feature {column.name!r} holds {kind.removesuffix('_list')}, not {column.kind}"
        )
    if len(values) > 1 and not column.is_list:
        raise MisfitError(f"feature {column.name!r} holds {len(values)} values, not 1")
    found = [_item(column, value) for value in values]
    if column.is_list:
        return found
    return found[0] if found else None


def _item(column: KeptColumn, value: Any) -> object:
    if column.kind == "float32":
        return float(value)
    if column.kind != "string":
        return value
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise MisfitError(f"feature {column.name!r} is not UTF-8 text") from None


@dataclasses.dataclass
class _Seen:
    """Of one feature: how often it was of which kind, and whether as text or as several values."""

    kinds: collections.Counter[str]
    is_text: bool = True
    is_list: bool = False
    has_one: bool = False


class FeaturesSeen:
    """What features some Examples have.

    Args:
      examples: the features of each.
      where: the files that they are of, for messages.
    """

    def __init__(self, examples: Iterable[Any], where: str):
        self._where = where
        self._seen: dict[str, _Seen] = {}
        for features in examples:
            for name in features:
                self._see(name, features[name])

    def check(self, key: Parameter) -> None:
        """Refuses the name of a feature that none of them has.

        Args:
          key: `image_key` or `id_key` of an `ExampleSpec`, with the feature's name.

        Raises:
          UserError: names the features that there are.
        """
        if self._seen and key.value not in self._seen:
            raise UserError(f"no Example has such a feature; {self._those()}", subject=key)

    def columns(self, wanted: Sequence[KeptColumn | str]) -> tuple[KeptColumn, ...]:
        """The columns of features, with the types that most of the Examples have.

        Raises:
          UserError: no Example has one of the features, or there is no Example.
        """
        names = [name for name in wanted if isinstance(name, str)]
        if names and not self._seen:
            raise UserError(
                f"{self._where} holds no readable tf.Example to take the column types from; "
                "declare them, such as label:int64",
                subject=Parameter("keep", ",".join(names)),
            )
        missing = [name for name in names if name not in self._seen]
        if missing:
            raise UserError(
                f"no Example has such a feature; {self._those()}. If others have it, declare its "
                "type, such as label:int64 or box:list<float>",
                subject=Parameter("keep", ",".join(missing)),
            )
        return tuple(self._column(one) if isinstance(one, str) else one for one in wanted)

    def _those(self) -> str:
        names = [name[:100] for name in sorted(self._seen)]
        more = ", …" if len(names) > _NAMES_TOLD else ""
        return f"those looked at in {self._where} have {', '.join(names[:_NAMES_TOLD])}{more}"

    def _see(self, name: str, feature: Any) -> None:
        kind = feature.WhichOneof("kind")
        seen = self._seen.setdefault(name, _Seen(collections.Counter()))
        values = getattr(feature, kind).value if kind else ()
        seen.is_list |= len(values) > 1
        seen.has_one |= len(values) == 1
        if values:
            seen.kinds[kind] += 1
        elif kind:
            seen.kinds.setdefault(kind, 0)
        if seen.is_text and kind == "bytes_list":
            seen.is_text = all(_is_text(value) for value in itertools.islice(values, 100))

    def _column(self, name: str) -> KeptColumn:
        seen = self._seen[name]
        kind = max(seen.kinds, key=lambda k: seen.kinds[k], default="bytes_list")
        if kind == "bytes_list":
            return KeptColumn(name, "string" if seen.is_text else "binary", seen.is_list)
        is_list = seen.is_list or not seen.has_one  # an empty list of numbers is a list
        return KeptColumn(name, "int64" if kind == "int64_list" else "float32", is_list)


def _is_text(value: bytes) -> bool:
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
