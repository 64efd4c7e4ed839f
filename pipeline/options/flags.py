"""Flags that are not this program's own: Beam's, other runners', and typing errors."""

from __future__ import annotations

import itertools
import re

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.options.pipeline_options import _BeamArgumentParser as BeamParser

import runners
from pipeline.options import program
from pipeline.options.parser import no_such_option, similar_option, with_joined_value
from transforms.errors import UserError

DRY_RUN = "--dry_run=true"

_BEAM_LABEL = re.compile(r"[a-z0-9_-]+=[^/]*$|\{")


def as_beam_has_them(argv: list[str]) -> list[str]:
    """The flags whose names Beam uses in another way, so that both can be given.

    `--labels FILE` becomes `--labels_file`, as Beam has a `--labels KEY=VALUE` for Dataflow jobs;
    `--dry_run` becomes `--dry_run=true`, as Beam's wants a value. `--value_range -1,1` becomes one
    word.
    """
    renamed = []
    argv = with_joined_value(argv)
    for flag, value in itertools.zip_longest(argv, argv[1:], fillvalue=""):
        name, equals, inline = flag.partition("=")
        if name == "--labels" and not _BEAM_LABEL.match(inline or value):
            renamed.append("--labels_file" + equals + inline)
        elif flag == "--dry_run":
            renamed.append(DRY_RUN)
        else:
            renamed.append(flag)
    return renamed


def refuse_unknown_flags(argv: list[str]) -> None:
    """Beam ignores flags that it does not know; here a typing error is an error.

    Other runners may know flags that this Beam does not, so with them only near misses are refused.
    """
    for before, word in zip(["", *argv], argv, strict=False):  # Beam fails on words without a name
        is_value = before.startswith("--") and "=" not in before
        if word.startswith("--=") or (word == "-" and not is_value):
            raise UserError(f"{word}: belongs to no option; put it behind one, such as --input")
    options = PipelineOptions(argv)
    names = options.get_all_options()
    known = [f"--{name}" for name in names]
    for flag in (argument.split("=", 1)[0] for argument in argv if argument.startswith("--")):
        if "-" in flag[2:] and flag[2:].replace("-", "_") in names:
            raise no_such_option(flag, known)
    for name in options.get_all_options(retain_unknown_options=True).keys() - names.keys():
        if runners.runs_here(options) or similar_option(f"--{name}", known):
            raise no_such_option(f"--{name}", known)


def refuse_strays(argv: list[str]) -> None:
    """Refuses words that belong to no option, such as those of an unquoted glob in a wrong place.

    Beam tells only which options it does not know, so its options are asked for here once more.
    """
    parser = BeamParser(add_help=False, allow_abbrev=False)
    for options_class in dict.fromkeys(PipelineOptions.__subclasses__()):
        options_class._add_argparse_args(parser)
    _, unknown = parser.parse_known_args(argv)
    strays = [word for word in unknown if not word.startswith("-")]
    flags = [word for word in unknown if word.startswith("-")]
    if strays and argv[0] in program.VERBS:
        write = f"{program.called(argv[0])} {' '.join(argv[1:])}".rstrip()
        raise UserError(f"is no option of run; write: {write}", subject=argv[0])
    if strays and not flags:
        raise UserError(f"{strays[0]}: belongs to no option; put it behind one, such as --input")
