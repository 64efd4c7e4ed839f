"""Many small parts into few, without changing a row.

Killed at any moment it leaves the state before or the state after, and may be started again.
"""

from __future__ import annotations

import uuid

from pipeline.output import accounting, lease, previous, publish, run_record
from pipeline.output.directory import Output
from pipeline.output.previous import Keeping
from pipeline.output.publish import Look
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import COPIES_DIRECTORY, PLAN_DIRECTORY, STAGING_DIRECTORY
from transforms.dataset.rewriting import copy_parts
from transforms.errors import UserError, one_line


def compact(output: Output, rows_per_file: int, keeping: Keeping) -> int:
    """Gathers the parts with less than half of `rows_per_file` images.

    Args:
      output: a finished output.
      rows_per_file: images in a part, at most.
      keeping: how long the parts that are gathered stay for those who read them.

    Returns:
      how many parts there were.

    Raises:
      UserError: there is no finished output, or a run is at work or was interrupted there.
    """
    dead = lease.refuse_if_held(output)
    try:
        output.refresh()
    except (OSError, ValueError) as error:
        raise UserError(
            f"{output.directory}: a part cannot be read: {one_line(error)}; delete that file, and "
            "the next run computes its images again"
        ) from error
    if not output.parts:
        raise UserError(f"{output.directory}: holds no parts of this program")
    run_id = uuid.uuid4().hex[:12]
    with lease.held(output, run_id, dead):
        look = lease.look(output, run_id)
        publish.roll_forward(output, look)
        for name in (PLAN_DIRECTORY, STAGING_DIRECTORY):
            if storage.list_names(output.path(name)):
                raise UserError(
                    f"{output.directory}: a run was interrupted here; start it again and let it "
                    "finish first"
                )
        published = snapshot.read_snapshot(output.directory)
        waiting = output.refresh().parts.keys() - published.parts
        if published.generation and waiting:
            raise UserError(
                f"{output.directory}: {len(waiting):,} parts wait that no run has published; start "
                "the run again first"
            )
        look()
        run_record.clear_temporaries(output)
        return _compact(output.refresh(), rows_per_file, keeping, look)


def _compact(output: Output, rows_per_file: int, keeping: Keeping, look: Look) -> int:
    groups = _groups(output, rows_per_file)
    before, images = len(output.parts), output.rows + output.errors
    if not groups:
        return before
    copies = Output(output.path(COPIES_DIRECTORY))
    generation = str(snapshot.read_snapshot(output.directory).generation)
    for names in groups:
        copy_parts([output.path(name) for name in names], copies.directory, (), generation)
    gathered = {name for names in groups for name in names}
    change = publish.replacing(output, [copies.refresh()], gathered)
    accounting.check_change(output, change, images)
    publish.publish(output, change, keeping, look)
    previous.clear(output, snapshot.read_snapshot(output.directory).generation, keeping)
    output.refresh()
    run_record.update_part_count(output)
    return before


def _groups(output: Output, rows_per_file: int) -> list[list[str]]:
    """Names of the small parts, in order, in groups of at most `rows_per_file` images."""
    groups: list[list[str]] = []
    room = 0
    for name, part in sorted(output.parts.items()):
        images = part.rows + part.errors
        if 2 * images >= rows_per_file:
            continue
        if images > room:
            groups.append([])
            room = rows_per_file
        groups[-1].append(name)
        room -= images
    return [names for names in groups if len(names) > 1]
