"""`python -m pipeline.compact OUT`: many small parts into few, without changing a row.

A night that adds some images adds some small parts; readers open each. Killed at any moment it
leaves the state before or the state after, and may be started again.
"""

from __future__ import annotations

import argparse
import sys
import uuid

from pipeline.options import model
from pipeline.output import lease, publish, run_record
from pipeline.output.directory import Output, open_output
from pipeline.terminal import report
from transforms import storage
from transforms.dataset import snapshot
from transforms.dataset.layout import COPIES_DIRECTORY, PLAN_DIRECTORY, STAGING_DIRECTORY
from transforms.dataset.rewriting import copy_parts
from transforms.errors import UserError


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    try:
        options = _parser().parse_args(argv)
        print(compact(open_output(storage.absolute(options.output)), options.rows_per_file))
        return 0
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def compact(output: Output, rows_per_file: int) -> str:
    """Gathers the parts with less than half of `rows_per_file` images; says what was done.

    Raises:
      UserError: there is no finished output, or a run is at work or was interrupted there.
    """
    lease.refuse_if_held(output)
    if not output.refresh().parts:
        raise UserError(f"{output.directory}: holds no parts of this program")
    with lease.held(output, uuid.uuid4().hex[:12]):
        publish.roll_forward(output)
        for name in (PLAN_DIRECTORY, STAGING_DIRECTORY):
            if storage.list_names(output.path(name)):
                raise UserError(
                    f"{output.directory}: a run was interrupted here; start it again and let it "
                    "finish first"
                )
        run_record.clear_temporaries(output)
        return _compact(output.refresh(), rows_per_file)


def _compact(output: Output, rows_per_file: int) -> str:
    groups = _groups(output, rows_per_file)
    before, images = len(output.parts), output.rows + output.errors
    if not groups:
        return f"{report.count(before, 'part')}: nothing to gather"
    copies = Output(output.path(COPIES_DIRECTORY))
    generation = str(snapshot.read_snapshot(output.directory).generation)
    for names in groups:
        copy_parts([output.path(name) for name in names], copies.directory, (), generation)
    removed = [name for names in groups for name in names]
    stays = {name: part for name, part in output.parts.items() if name not in removed}
    run_record.check_ids_unique([Output(output.directory, stays), copies.refresh()])
    publish.publish(output, publish.Change([copies], removed))
    output.refresh()
    if output.rows + output.errors != images:
        raise RuntimeError(f"{output.directory} held {images} images before and not after")
    run_record.update_part_count(output)
    return f"{report.count(before, 'part')} -> {report.count(len(output.parts), 'part')}"


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


def _parser() -> argparse.ArgumentParser:
    parser = model.Parser(
        prog="python -m pipeline.compact",
        description="Gathers the small parts of an output into larger ones; no row changes.",
    )
    parser.add_argument("output", metavar="OUT", help="output directory of pipeline.run")
    parser.add_argument(
        "--rows_per_file",
        type=int,
        default=4096,
        metavar="N",
        help="images in one Parquet file, at most (default: %(default)s)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
