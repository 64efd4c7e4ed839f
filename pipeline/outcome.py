"""What a run has computed becomes the state that readers see, or waits until it is good enough.

Judged before anything that readers go by changes: a run that fails its own checks leaves rows,
`_snapshot.json` and `_SUCCESS` as they were.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from pipeline.options.values import LimitOptions
from pipeline.output import accounting, publish
from pipeline.output.accounting import Tried
from pipeline.output.directory import Output
from pipeline.output.previous import Keeping
from pipeline.output.publish import Look
from pipeline.output.staging import staging_of
from pipeline.planning.inputs import lost_text
from pipeline.planning.plan import Plan
from transforms.dataset.snapshot import read_snapshot
from transforms.refs import Unreadable

# A folder of ten photos with three broken ones, or a quiet night, is no reason to wake anybody;
# a tenth of a large one is: a share that no healthy source reaches, and a lost permission or a
# proxy's error pages soon do.
DEFAULT_MAX_ERROR_RATE = 0.1
FEWEST_FAILURES = 10


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of it.

    Attributes:
      plan: with the images whose rows stay as they could not be read.
      tried: the images that were judged.
      max_error_rate: what they were judged by.
      published: whether it is what readers see.
      unreadable: containers with images that cannot be found, because of which it is not.
    """

    plan: Plan
    tried: Tried
    max_error_rate: float
    published: bool
    unreadable: Sequence[Unreadable] = ()


def conclude(
    plan: Plan,
    output: Output,
    sync: bool,
    limits: LimitOptions,
    keeping: Keeping,
    look: Look,
    unreadable: Sequence[Unreadable] = (),
) -> Outcome:
    """Judges what was computed and, if it is good, publishes it.

    Args:
      plan: what there was to do.
      output: the directory.
      sync: whether the output is to hold what the inputs hold, and nothing else.
      limits: what is tolerated.
      keeping: how long rows that are replaced stay for those who read them.
      look: raises if the output is another run's by now.
      unreadable: containers with images that cannot be found.

    Raises:
      AccountingError, DuplicateIdsError: an image is missing or there twice; nothing changed.
    """
    output.refresh(without=output.all_names() if plan.replaces_all else ())
    staged = staging_of(output)
    if plan.replaces:
        staged.refresh()
    published = read_snapshot(output.directory).parts
    drop = plan.drop | plan.drop_staged
    tried = accounting.count_tried(output, staged, published, drop, plan.failed_before, unreadable)
    max_error_rate = limits.max_error_rate
    if max_error_rate is None:
        max_error_rate = DEFAULT_MAX_ERROR_RATE
        left = output.rows + staged.rows - len(plan.rows_changed) - plan.gone
        few = tried.failed < FEWEST_FAILURES and left > 0
    else:
        few = False
    if tried.error_rate > max_error_rate and not few:
        return Outcome(plan, tried, max_error_rate, published=False)
    if unreadable and not limits.allow_unreadable:
        return Outcome(plan, tried, max_error_rate, published=False, unreadable=unreadable)
    if not plan.replaces:
        accounting.check_ids_unique([output])
        return Outcome(plan, tried, max_error_rate, published=True)
    known = plan.rows_changed | plan.failed_before
    plan = plan.keeping(accounting.find_unread(staged, plan.drop_staged, known))
    look()
    if plan.replaces_all:
        change = publish.replacing_all(output, plan.drop_staged)
    else:
        change = publish.prepare(output, plan.drop, plan.drop_staged)
    expected = plan.matched + plan.kept if sync or plan.replaces_all else None
    accounting.check_change(output, change, expected)
    if change.changes:
        publish.publish(output, change, keeping, look)
    output.refresh()
    return Outcome(plan, tried, max_error_rate, published=True)


def why_unpublished(outcome: Outcome, output: Output) -> str:
    """Why nothing was published, and what to do.

    Args:
      outcome: that of a run that failed.
      output: the directory.
    """
    tried = outcome.tried
    waits = "what was computed waits in _staging" if outcome.plan.replaces else "new parts wait"
    if outcome.unreadable:
        return (
            f"{lost_text(outcome.unreadable)}: nothing was published, {output.directory} has the "
            f"rows and the snapshot of before, and {waits}. Repair or replace what is damaged, or "
            "accept the loss with --allow_unreadable"
        )
    return (
        f"{tried.failed:,} of {tried.images:,} images that were tried are errors "
        f"({tried.error_rate:.0%}), over --max_error_rate {outcome.max_error_rate:g}: nothing was "
        f"published, {output.directory} has the rows and the snapshot of before, and {waits}. "
        "Put the cause right and run the same command with --retry_errors, or accept them with a "
        "higher --max_error_rate"
    )
