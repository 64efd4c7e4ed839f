"""What a run has to do: the images that the inputs hold against the rows that are there.

This one comparison gives resume, incremental indexing and `--mode sync`.
"""

from __future__ import annotations

import collections
import dataclasses
import functools
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from pipeline import exit_codes
from pipeline.options.values import Mode
from pipeline.output.directory import Output, PartIds
from transforms.errors import UserError, was_read
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
      given_up: images computed by a run that was to replace all and was interrupted, as this one
        leaves their rows.
      stale: ids of images that were to be computed anew and could not be read: their rows stay.
      drop: ids to take out of each part, by part name.
      drop_staged: the same for the parts in the staging directory.
      rows_changed: of these, ids of rows (not error rows) that make room for their images.
      failed_before: ids of error rows that readers have and whose images are tried again.
      replaces_all: whether nothing of what is there stays.
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
    given_up: int = 0
    stale: Sequence[str] = ()
    drop: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    drop_staged: dict[str, set[str]] = dataclasses.field(default_factory=dict)
    rows_changed: set[str] = dataclasses.field(default_factory=set)
    failed_before: set[str] = dataclasses.field(default_factory=set)
    replaces_all: bool = False

    @property
    def replaces(self) -> bool:
        """Whether rows that are there give way, so that the result must appear as a whole."""
        return bool(self.drop or self.staged or self.replaces_all)

    def keeping(self, unread: dict[str, set[str]]) -> Plan:
        """The plan in which images that could not be read now keep the row or error row they have.

        The error rows of this try are left out of what is published, and so the next run tries
        these images again.

        Args:
          unread: ids of some of `rows_changed` and `failed_before`, by the staged part with their
            error rows.
        """
        kept = set[str]().union(*unread.values())
        drop = {name: ids - kept for name, ids in self.drop.items()}
        names = self.drop_staged.keys() | unread.keys()
        return dataclasses.replace(
            self,
            drop={name: ids for name, ids in drop.items() if ids},
            drop_staged={
                name: self.drop_staged.get(name, set()) | unread.get(name, set()) for name in names
            },
            stale=sorted(kept & self.rows_changed),
        )


def make_plan(
    refs: list[ImageRef],
    output: Output,
    staging: Output,
    mode: Mode,
    retry_errors: bool,
    unlisted: Sequence[str] = (),
    published: Collection[str] = (),
) -> Plan:
    """Compares the inputs with what is committed.

    Args:
      refs: the images of the inputs, each id once.
      output: with all its parts.
      staging: parts that a replacing run left which was interrupted.
      mode: "append" leaves rows of changed and gone images as they are, "sync" replaces and
        removes them. Error rows of changed images, and of those that may be read a while later,
        are tried again in both.
      retry_errors: whether all error rows are.
      unlisted: directories that the listing could not look into, and containers in which it could
        not find all images.
      published: names of the parts that readers have.

    Raises:
      UserError: a part or a file of error rows cannot be read.
    """
    wanted = {ref.id: ref for ref in refs}
    unseen = _Unseen(refs, unlisted)
    done: set[str] = set()
    counts: collections.Counter[str] = collections.Counter()
    drop: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    rows_changed: set[str] = set()
    failed_before: set[str] = set()
    known: set[str] = set()
    new_parts = output.parts.keys() - published
    for part in _published_first(output, published):
        for row in _rows(part):
            if row.id in known:  # a worker that was late has committed a part once more
                drop[part.name].add(row.id)
                continue
            if new_parts:
                known.add(row.id)
            ref = wanted.get(row.id)
            if ref is None:
                fate = "gone" if mode == "sync" and not unseen.holds(row.uri) else "kept"
                if part.name not in published and (fate == "gone" or row.failed):
                    drop[part.name].add(row.id)  # of a run with other inputs that failed
                    continue
            elif (ref.uri, ref.version) != (row.uri, row.version):
                fate = "retried" if row.failed and mode == "append" else "changed"
            else:
                again = row.failed and (retry_errors or row.may_pass)
                fate = "retried" if again else "unchanged"
            counts[fate] += 1
            if fate in ("gone", "retried") or (fate == "changed" and mode == "sync"):
                drop[part.name].add(row.id)
                if row.failed and fate != "gone" and part.name in published:
                    failed_before.add(row.id)
                elif fate == "changed" and not row.failed:
                    rows_changed.add(row.id)
            elif ref is not None:
                done.add(ref.id)
    new = len(refs) - counts["changed"] - counts["retried"] - counts["unchanged"]
    drop_staged: collections.defaultdict[str, set[str]] = collections.defaultdict(set)
    for part in staging.ids():
        for row in _rows(part):
            ref = wanted.get(row.id)
            fits = ref is not None and (ref.uri, ref.version) == (row.uri, row.version)
            again = row.failed and (retry_errors or row.may_pass or not row.was_read)
            if fits and row.id not in done and not again:
                done.add(row.id)
                counts["staged"] += 1
            else:
                drop_staged[part.name].add(row.id)
                counts["given_up"] += fits and not row.failed
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
        given_up=counts["given_up"],
        drop=dict(drop),
        drop_staged=dict(drop_staged),
        rows_changed=rows_changed,
        failed_before=failed_before,
    )


def _published_first(output: Output, published: Collection[str]) -> Iterator[PartIds]:
    for of_readers in (True, False):
        names = [name for name in output.parts if (name in published) == of_readers]
        parts = {name: output.parts[name] for name in names}
        yield from Output(output.directory, parts).ids()


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
        """Whether a row's file lies there: below a directory, or is a container of records."""
        return uri in self._files or f"{uri}/".startswith(self._directories)


class _Row(NamedTuple):
    """A row or an error row; `may_pass` and `was_read` tell of an error row what it says."""

    id: str
    uri: str
    version: str
    failed: bool = False
    may_pass: bool = False
    was_read: bool = True


def _rows(part: PartIds) -> Iterator[_Row]:
    """The rows, then the error rows of a part."""
    yield from map(_Row, *(part.rows[name].to_pylist() for name in ("id", "uri", "version")))
    names = ("id", "uri", "version", "stage", "error_type", "transient")
    for image_id, uri, version, stage, error_type, transient in zip(
        *(part.errors[name].to_pylist() for name in names), strict=True
    ):
        yield _Row(image_id, uri, version, True, transient, was_read(stage, error_type))
