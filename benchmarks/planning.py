"""`python -m benchmarks.planning COUNT`: plans a job of so many images that need not be there.

Makes image refs, compares them with an empty output, groups them into shards and writes the plan,
as a run does before Beam starts. Prints one line of JSON: seconds, and peak memory of the process,
the refs themselves included.
"""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time

from pipeline.output.directory import Output
from pipeline.planning.plan import make_plan
from transforms import shards
from transforms.refs import ImageRef

ROWS_PER_FILE = 4096


def main() -> None:
    """Plans and measures."""
    count = int(sys.argv[1])
    started = time.perf_counter()
    refs = [_ref(number) for number in range(count)]
    listed = time.perf_counter()
    with tempfile.TemporaryDirectory() as directory:
        output = Output(directory)
        plan = make_plan(refs, output, Output(directory), "append", retry_errors=False)
        planned = shards.continue_plan(plan.todo, [], ROWS_PER_FILE)
        pointers = shards.write_plan(planned, directory, "plan")
        ended = time.perf_counter()
    assert sum(pointer.size for pointer in pointers) == count
    print(
        json.dumps(
            {
                "refs": count,
                "make_refs_seconds": listed - started,
                "plan_seconds": ended - listed,
                "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def _ref(number: int) -> ImageRef:
    uri = f"/data/photos/{number // 1000:04d}/{number:07d}.jpg"
    return ImageRef(id=uri, uri=uri, version=f"61440-{1_700_000_000_000_000_000 + number}")


if __name__ == "__main__":
    main()
