"""What is to do, as shards that are written down beside the output."""

from __future__ import annotations

import pyarrow as pa

from pipeline.output.directory import Output
from pipeline.planning.plan import Plan
from transforms import storage
from transforms.dataset.layout import PLAN_DIRECTORY, is_planned_name
from transforms.dataset.snapshot import read_snapshot
from transforms.errors import UserError, one_line
from transforms.shards import Shard, ShardPointer, continue_plan, read_plan, write_plan


def plan_shards(
    plan: Plan, output: Output, run_id: str, rows_per_file: int, at_once: int
) -> list[ShardPointer]:
    """Groups what is to do into shards, as an interrupted run had them, and writes them down.

    Args:
      plan: what is to do.
      output: the shards are written into its `_plan/`, in place of those of earlier runs.
      run_id: begins the names of the files.
      rows_per_file: images in a shard, about.
      at_once: how many shards are worked on at a time.
    """
    paths = earlier_plans(output)
    earlier = (shard for path in paths for shard in _read_earlier(path))
    generation = ""
    if plan.replaces:
        generation = str(read_snapshot(output.directory).generation)
    planned = continue_plan(plan.todo, earlier, rows_per_file, generation, at_once)
    pointers = write_plan(planned, output.path(PLAN_DIRECTORY), run_id)
    storage.delete(paths)
    return pointers


def _read_earlier(path: str) -> list[Shard]:
    """The shards of an earlier plan, of which those that are still wholly to do keep their names.

    Raises:
      UserError: it is damaged.
    """
    try:
        return read_plan(path)
    except (pa.ArrowException, storage.UnusableFileError, ValueError, KeyError) as error:
        raise UserError(
            f"is damaged ({one_line(error)}); delete it if no run is at work", subject=path
        ) from error


def earlier_plans(output: Output) -> list[str]:
    """Paths of the plans that runs left which did not finish."""
    directory = output.path(PLAN_DIRECTORY)
    return [
        storage.join(directory, name)
        for name in storage.list_names(directory)
        if is_planned_name(name)
    ]
