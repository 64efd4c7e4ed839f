"""What a run has to do: the images that the inputs hold against the rows that are there.

This one comparison gives resume, incremental indexing and `--mode sync`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Iterable, Sequence

import pyarrow as pa

from pipeline import exit_codes
from pipeline.options.values import Mode
from pipeline.output.directory import Output
from transforms.errors import UserError
from transforms.refs import ImageRef


class LimitError(UserError):
    """A safety limit refuses what there is to do; nothing was changed."""

    exit_code = exit_codes.REFUSED


@dataclasses.dataclass(frozen=True)
class Plan:
    """What to compute and what to take out.

    Attributes:
      todo: refs to compute; a run forgets them when its shards are written down.
      computes: how many these are.
      matched: images that the inputs hold.
      new: of these, those that the output does not know.
      changed: those whose row is of another version or another file.
      unchanged: those whose row or error row stays.
      retried: error rows whose images are tried again.
      gone: rows and error rows of images that the inputs no longer hold and that are taken out.
      kept: rows and error rows of images that the inputs do not hold and that stay.
      staged: images to be published that a run computed which was interrupted.
      drop: ids to take out of each part, by part name.
      drop_staged: the same for the parts in the staging directory.
    """

    todo: list[ImageRef]
    computes: int
    matched: int
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    retried: int = 0
    gone: int = 0
    kept: int = 0
    staged: int = 0
    drop: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    drop_staged: dict[str, set[str]] = dataclasses.field(default_factory=dict)

    @property
    def replaces(self) -> bool:
        """Whether rows that are there give way, so that the result must appear as a whole."""
        return bool(self.drop or self.staged)


def make_plan(
    refs: list[ImageRef],
    output: Output,
    staging: Output,
    mode: Mode,
    retry_errors: bool,
    unlisted: Sequence[str] = (),
) -> Plan:
    """Compares the inputs with what is committed.

    Args:
      refs: the images of the inputs, each id once.
      output: with all its parts.
      staging: parts that a replacing run left which was interrupted.
      mode: "append" leaves rows of changed and gone images as they are, "sync" replaces and
        removes them.
      retry_errors: whether error rows are tried again.
      unlisted: directories that the listing could not look into.

    Raises:
      UserError: a part or a file of error rows cannot be read.
    """
    wanted = {ref.id: ref for ref in refs}
    unseen = _Unseen(refs, unlisted)
    done: set[str] = set()
    counts: collections.Counter[str] = collections.Counter()
    drop: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for part in output.ids():
        for table, is_error in ((part.rows, False), (part.errors, True)):
            for image_id, uri, version in _rows(table):
                ref = wanted.get(image_id)
                if ref is None:
                    fate = "gone" if mode == "sync" and not unseen.holds(uri) else "kept"
                elif (ref.uri, ref.version) != (uri, version):
                    fate = "changed"
                else:
                    fate = "retried" if is_error and retry_errors else "unchanged"
                counts[fate] += 1
                if fate in ("gone", "retried") or (fate == "changed" and mode == "sync"):
                    drop[part.name].add(image_id)
                elif ref is not None:
                    done.add(ref.id)
    new = len(refs) - counts["changed"] - counts["retried"] - counts["unchanged"]
    drop_staged: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for part in staging.ids():
        for table in (part.rows, part.errors):
            for image_id, uri, version in _rows(table):
                ref = wanted.get(image_id)
                if ref and (ref.uri, ref.version) == (uri, version) and ref.id not in done:
                    done.add(ref.id)
                    counts["staged"] += 1
                else:
                    drop_staged[part.name].add(image_id)
    todo = [ref for ref in refs if ref.id not in done]
    return Plan(
        todo=todo,
        computes=len(todo),
        matched=len(refs),
        new=new,
        changed=counts["changed"],
        unchanged=counts["unchanged"],
        retried=counts["retried"],
        gone=counts["gone"],
        kept=counts["kept"],
        staged=counts["staged"],
        drop=dict(drop),
        drop_staged=dict(drop_staged),
    )


def plan_line(plan: Plan, mode: Mode) -> str:
    """The plan on one line, as it is printed before the work starts."""
    text = f"{plan.matched:,} images: +{plan.new:,} new, {plan.changed:,} changed"
    if plan.changed and mode == "append":
        text += " (their rows stay; --mode sync replaces them)"
    if mode == "sync":
        text += f", {plan.gone:,} gone"
    if plan.retried:
        text += f", {plan.retried:,} errors to try again"
    text += f", {plan.unchanged:,} unchanged"
    if mode == "sync" and plan.kept:
        text += f"; {plan.kept:,} rows stay whose directory or file cannot be read now"
    if plan.staged:
        text += f"; {plan.staged:,} were computed by a run that was interrupted"
    return text


class _Unseen:
    """What a listing could not look into: images there are not gone, they are not to be seen."""

    def __init__(self, refs: Sequence[ImageRef], unlisted: Sequence[str]):
        self._directories = tuple(uri.rstrip("/") + "/" for uri in unlisted)
        self._refs = refs

    @functools.cached_property
    def _files(self) -> set[str]:
        return {ref.uri for ref in self._refs if not ref.is_record}

    def holds(self, uri: str) -> bool:
        """Whether a row's file lies there: below a directory, or in a container of records."""
        return uri in self._files or uri.startswith(self._directories)


def _rows(table: pa.Table) -> Iterable[tuple[str, str, str]]:
    return zip(*(table[name].to_pylist() for name in ("id", "uri", "version")), strict=True)
