"""The options that say what to read."""

from __future__ import annotations

from typing import Any

from pipeline.options import types
from transforms.images.spec import DEFAULT_MAX_FILE_BYTES, DEFAULT_MAX_PIXELS


def add_input_arguments(group: Any) -> None:
    """Adds them to a parser or a group of one."""
    group.add_argument(
        "--input",
        action="extend",
        nargs="+",
        metavar="PATH",
        help="file, directory (searched recursively for images), quoted glob or TFRecord file, "
        "local or gs:// s3://; may be repeated",
    )
    group.add_argument(
        "--input_format",
        choices=["auto", "files", "tfrecord"],
        default="auto",
        help="what a file is; auto: a TFRecord file if .tfrecord or .tfrec is in its name, "
        "else an image (default: %(default)s)",
    )
    group.add_argument(
        "--tfrecord_image_key",
        default="image/encoded",
        metavar="KEY",
        help="feature of the tf.Example with the encoded image (default: %(default)s)",
    )
    group.add_argument(
        "--tfrecord_id_key",
        metavar="KEY",
        help="feature of the tf.Example that becomes the id (default: FILE#INDEX)",
    )
    group.add_argument(
        "--keep",
        metavar="A,B:TYPE",
        help="features of the tf.Example that become columns; TYPE: int64, float, string, bytes, "
        "list<float>, …, if it is not that of most Examples; a value that does not fit is null",
    )
    group.add_argument(
        "--label_from_parent",
        action="store_true",
        help="add a label column with the name of the directory that the image is in",
    )
    group.add_argument(
        "--version",
        choices=["mtime", "sha256"],
        default="mtime",
        help="what tells that an image has changed: size and modification time (or etag), or its "
        "bytes, which are read for it (default: %(default)s); --version alone prints the program's",
    )
    group.add_argument(
        "--max_pixels",
        type=types.positive,
        default=DEFAULT_MAX_PIXELS,
        metavar="N",
        help="largest width x height that is decoded, checked in the image's header "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--max_file_bytes",
        type=types.positive,
        default=DEFAULT_MAX_FILE_BYTES,
        metavar="N",
        help="largest encoded image that is read, in bytes (default: %(default)s)",
    )
