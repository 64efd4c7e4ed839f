"""The options of fine-tuning, and which options have an effect on what."""

from __future__ import annotations

from typing import Any

from pipeline.options import types

# Which heads an option of training has an effect on; fine-tuning is one of its own.
TAKEN_BY = {
    "train_epochs": ("mlp", "fine-tuning"),
    "batch_size": ("mlp", "fine-tuning"),
    "learning_rate": ("mlp", "fine-tuning"),
    "momentum": ("mlp", "fine-tuning"),
    "dropout_rate": ("mlp", "fine-tuning"),
    "l1_regularizer": ("logistic", "mlp", "fine-tuning"),
    "l2_regularizer": ("logistic", "mlp", "fine-tuning"),
    "label_smoothing": ("mlp", "fine-tuning"),
    "hidden_units": ("mlp",),
    "summaries_dir": ("fine-tuning",),
    "do_data_augmentation": ("fine-tuning",),
    "rotation_range": ("augmentation",),
    "horizontal_flip": ("augmentation",),
    "width_shift_range": ("augmentation",),
    "height_shift_range": ("augmentation",),
    "shear_range": ("augmentation",),
    "zoom_range": ("augmentation",),
    "warm_up": ("fine-tuning",),
    "checkpoint_steps": ("fine-tuning",),
    "patience": ("fine-tuning",),
    "checkpoints": ("fine-tuning",),
}

# Of those among them that argparse has a value for where they are not given.
DEFAULTS = {
    "hidden_units": 256,
    "do_data_augmentation": False,
    "warm_up": 0.1,
    "checkpoint_steps": 100,
    "patience": 3,
}

WITHOUT_EFFECT = {
    "use_tf_data_input": "images are read in one way",
    "set_memory_growth": "TensorFlow's memory on a GPU grows as it is needed",
    "distribution_strategy": "training runs on one device",
}


def add_tuning(group: Any) -> None:
    """Adds those of fine-tuning to a group of a parser."""
    group.add_argument(
        "--do_fine_tuning",
        type=types.boolean,
        default=False,
        metavar="BOOL",
        help="train the model's own weights, too, from the images of --image_dir",
    )
    group.add_argument(
        "--warm_up",
        type=types.fraction,
        default=DEFAULTS["warm_up"],
        metavar="X",
        help="share of the steps in which the learning rate rises; then it falls by a cosine "
        "(default: %(default)s)",
    )
    group.add_argument(
        "--patience",
        type=types.positive,
        default=DEFAULTS["patience"],
        metavar="N",
        help="stop after so many epochs without a better loss on validation images (default: "
        "%(default)s)",
    )
    group.add_argument(
        "--checkpoint_steps",
        type=types.positive,
        default=DEFAULTS["checkpoint_steps"],
        metavar="N",
        help="after a kill, at most so many steps are done again (default: %(default)s)",
    )
    group.add_argument(
        "--checkpoints",
        metavar="DIR",
        help="where they are kept, for the same command to go on; when the model is written they "
        "may be deleted (default: MODEL-checkpoints)",
    )
    group.add_argument("--summaries_dir", metavar="DIR", help="where TensorBoard finds its logs")
    for name in WITHOUT_EFFECT:
        group.add_argument(f"--{name}", help="of make_image_classifier; has no effect any more")


def add_augmentation(group: Any) -> None:
    """Adds those of augmentation to a group of a parser."""
    group.add_argument(
        "--do_data_augmentation",
        type=types.boolean,
        default=DEFAULTS["do_data_augmentation"],
        metavar="BOOL",
        help="change the images at random while fine-tuning; the others say how (default: false)",
    )
    group.add_argument(
        "--horizontal_flip",
        type=types.boolean,
        metavar="BOOL",
        help="mirror half of them (default: true)",
    )
    for name, default, what in (
        ("rotation_range", 40.0, "degrees by which an image is turned, at most"),
        ("width_shift_range", 0.2, "share of its width by which it is moved, at most"),
        ("height_shift_range", 0.2, "share of its height by which it is moved, at most"),
        ("shear_range", 0.2, "degrees by which it is sheared, at most"),
        ("zoom_range", 0.2, "share by which it is enlarged or made smaller, at most"),
    ):
        group.add_argument(
            f"--{name}", type=types.from_zero, metavar="X", help=f"{what} (default: {default:g})"
        )
