"""The command line, as Beam `PipelineOptions`, so that every runner's own flags keep working."""

from __future__ import annotations

import argparse
import contextlib
import io
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

import runners
from pipeline.options import flags, inputs, model, types, workers
from pipeline.options.keeping import add_keeping
from pipeline.options.parser import Parser
from transforms.engines import parity
from transforms.errors import UserError

EPILOG = """\
The flags of Beam's runners work as well, for example --direct_num_workers, --flink_master,
--project, --region, --temp_location. Exit codes: 0 done; 1 failed, or more errors than
--max_error_rate; 2 a mistake in the command or its inputs; 3 another run is at work on the output;
4 a safety limit such as --max_gone_rate refused it; 130 or 143 interrupted.
"""


class ImageOptions(PipelineOptions):
    """What to read, which model, and where to write."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        inputs.add_input_arguments(parser.add_argument_group("input"))
        _add_model(parser.add_argument_group("model"))
        _add_output(parser.add_argument_group("output"))
        workers.add_worker_arguments(parser.add_argument_group("workers on other machines"))


def parse(argv: list[str]) -> ImageOptions:
    """Options from the command line.

    Raises:
      UserError: a flag is missing, unknown or has an unusable value.
      SystemExit: after `--help`.
    """
    renamed = flags.as_beam_has_them(argv)
    try:
        return _parse(renamed)
    except UserError as error:
        typed = {word.partition("=")[0] for word in argv}
        if error.subject != "--labels_file" or "--labels_file" in typed:
            raise
        raise UserError(*error.message.pieces, subject="--labels") from error


def _parse(argv: list[str]) -> ImageOptions:
    own_parser().parse_known_args([word for word in argv if word != flags.DRY_RUN])
    usage = io.StringIO()
    try:
        with contextlib.redirect_stderr(usage):
            flags.refuse_unknown_flags(argv)
            flags.refuse_strays(argv)
            options = PipelineOptions(argv).view_as(ImageOptions)
    except SystemExit:  # argparse has printed the usage of all of Beam, then what is wrong
        raise UserError(usage.getvalue().rsplit("error: argument ", 1)[-1].strip()) from None
    _check_values(options)
    return options


def own_parser() -> argparse.ArgumentParser:
    """A parser of this program's own options: for `--help`, clear errors and docs/options.md."""
    parser = Parser(
        "run",
        usage="%(prog)s --input PATH --output DIR [option ...]",
        description="Images to feature vectors or logits in Parquet.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--runner",
        default="DirectRunner",
        metavar="NAME",
        help="Beam runner (default: %(default)s, on this machine)",
    )
    parser.add_argument(  # Beam's own, which means the same
        "--dry_run", action="store_true", help="print what there is to do, and stop there"
    )
    ImageOptions._add_argparse_args(parser)
    return parser


def _add_model(group: Any) -> None:
    model.add_run_arguments(group)
    model.add_arguments(group)
    group.add_argument(
        "--engine",
        choices=["tensorflow", "openvino", "auto"],
        default="tensorflow",
        help="what runs the model; openvino: 1.1 to 1.6 times as fast on CPUs, needs pip install "
        "'beam-image-features[openvino]'; auto: a GPU if TensorFlow sees one, else openvino if "
        "installed and within 1e-4 of TensorFlow, else tensorflow (default: %(default)s)",
    )
    group.add_argument(
        "--precision",
        choices=["float32", "bfloat16", "float16"],
        default="float32",
        help="what the model computes in; bfloat16: openvino on a CPU that has it; float16: "
        "tensorflow on a GPU (default: %(default)s)",
    )
    group.add_argument(
        "--min_cosine",
        type=types.fraction,
        default=parity.MIN_COSINE,
        metavar="X",
        help="with bfloat16 or float16: smallest cosine to the float32 vectors of the probe's "
        "images that is accepted (default: %(default)s)",
    )
    group.add_argument(
        "--pixels",
        choices=["exact", "uint8"],
        default="exact",
        help="exact: resized pixels as float32, as tf.image gives them; uint8: rounded, faster, "
        "cosine of vectors about 0.9999 on most photos (default: %(default)s)",
    )
    group.add_argument(
        "--decode",
        choices=["exact", "fast"],
        default="exact",
        help="exact: the pixels of TensorFlow's decoder; fast: JPEGs decoded about as small as "
        "needed, in half the time at 12 megapixels, mean cosine of photos' vectors 0.994 there "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--batch_size",
        type=types.batch_size,
        default=32,
        metavar="N",
        help="images in a batch, or auto: the fewest with which the model is about as fast as it "
        "gets here, measured at the start (default: %(default)s)",
    )
    group.add_argument(
        "--labels_file",
        metavar="FILE",
        help="classification: class names, one a line, also --labels FILE (default: those "
        "that the model says itself, as the built-in and those of train do)",
    )
    group.add_argument(
        "--top_k",
        type=types.natural,
        metavar="K",
        help="classification: add a top_k column with the K best classes; 0 for none "
        "(default: 5 if the class names are known, else 0)",
    )
    group.add_argument(
        "--activation",
        choices=["none", "softmax", "sigmoid"],
        help="classification: what makes the scores in top_k of the logits; never guessed "
        "(default: what the model says itself, else none)",
    )


def _add_output(group: Any) -> None:
    group.add_argument("--output", metavar="DIR", help="directory that the Parquet files go to")
    group.add_argument(
        "--rows_per_file",
        type=types.positive,
        default=4096,
        metavar="N",
        help="images in one Parquet file, about; also the unit of work (default: %(default)s)",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="compute all images anew; they replace an earlier output of this program when the "
        "last one is done",
    )
    group.add_argument(
        "--mode",
        choices=["append", "sync"],
        default="append",
        help="append: compute the images that the output does not know; sync: also replace the "
        "rows of changed images and remove those of images that are gone (default: %(default)s)",
    )
    group.add_argument(
        "--retry_errors",
        action="store_true",
        help="try all images again that are error rows, not only those that could not be read for "
        "a reason that may have passed, or have changed",
    )
    add_keeping(group)
    group.add_argument(
        "--max_gone_rate",
        type=types.fraction,
        default=0.5,
        metavar="X",
        help="share of the rows that sync may remove, 0 to 1; above it nothing is changed, as "
        "perhaps an input is missing (default: %(default)s)",
    )
    group.add_argument(
        "--max_error_rate",
        type=types.fraction,
        metavar="X",
        help="share of the images that are tried which may fail, 0 to 1; above it the exit code is "
        "1, and readers see the rows of before (default: 0.1, and never for fewer than 10 images "
        "unless there is no row at all)",
    )
    group.add_argument(
        "--allow_unreadable",
        action="store_true",
        help="succeed although records are lost in damaged files",
    )
    group.add_argument(
        "--verbose", action="store_true", help="show the logs of TensorFlow and Beam"
    )


def _check_values(options: ImageOptions) -> None:
    if not options.input:
        raise UserError("--input is missing: give a directory, file or quoted glob of images")
    if not all(options.input):
        raise UserError("--input is empty: give a directory, file or quoted glob of images")
    if not options.output:
        raise UserError("--output is missing: give the directory for the Parquet files")
    if options.view_as(StandardOptions).streaming:
        raise UserError("--streaming: this is a batch pipeline")
    runners.refuse_unknown_runner(options)
    model.image_size(options)
    model.arguments(options)
    if options.task != "classification":
        for name in ("labels_file", "top_k", "activation"):
            if getattr(options, name) is not None:
                flag = name.removesuffix("_file")
                raise UserError(f"--{flag} needs --task classification")
