"""What each engine needs to run the pipeline."""

from __future__ import annotations

import difflib

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.runner import PipelineRunner

from runners import direct, places
from transforms.errors import UserError

LOCAL_NAMES = frozenset({"directrunner", "fnapirunner"})


def create(options: PipelineOptions) -> PipelineRunner | str:
    """The runner that `--runner` asks for; `DirectRunner` is Beam's in-process portable runner.

    Unlike Beam's it works on several bundles at once, unless `options` say otherwise.

    Returns:
      a runner, or the name of one that Beam knows.
    """
    if not runs_here(options):
        return options.view_as(StandardOptions).runner
    direct.use_threads_by_default(options)
    return direct.create(options)


def bundles_at_once(options: PipelineOptions) -> int:
    """How many bundles `create`'s runner works on at a time; 1 where another runner decides."""
    return direct.bundles_at_once(options) if runs_here(options) else 1


def refuse_unknown_runner(options: PipelineOptions) -> None:
    """Refuses a runner that Beam does not know.

    Raises:
      UserError: with the name that is most like it.
    """
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    known = [*StandardOptions.KNOWN_RUNNER_NAMES, "DirectRunner"]
    lowered = [runner.lower() for runner in known]
    if "." in name or name.lower() in lowered or name.lower() in LOCAL_NAMES:
        return
    similar = difflib.get_close_matches(name.lower(), lowered, n=1)
    hint = f"; did you mean {known[lowered.index(similar[0])]}?" if similar else ""
    raise UserError(f"--runner {name}: Beam knows no such runner{hint}")


def runs_here(options: PipelineOptions) -> bool:
    """Whether the pipeline runs on this machine, in Beam's in-process portable runner."""
    return name_of(options).lower() in LOCAL_NAMES


def workers_are_elsewhere(options: PipelineOptions) -> bool:
    """Whether the workers are on other machines, or may be: they see no file of this one."""
    return not (runs_here(options) or places.keeps_workers_here(name_of(options).lower(), options))


def name_of(options: PipelineOptions) -> str:
    """The runner's name, without its module."""
    name = options.view_as(StandardOptions).runner or "DirectRunner"
    return name.rsplit(".", 1)[-1]
