"""Errors as a person reads them: what the library calls a parameter is a flag on this command line.

The only place that knows which flag stands for which parameter. What a worker raises comes to the
program as text, and speaks of parameters.
"""

from __future__ import annotations

from pipeline.terminal.streams import shown
from transforms.errors import Message, Parameter, UserError

# Those whose flag has another name than the parameter.
_FLAGS = {
    "arguments": "model_args",
    "epochs": "train_epochs",
    "fraction": "validation_split",
    "l1": "l1_regularizer",
    "l2": "l2_regularizer",
    "id_key": "tfrecord_id_key",
    "image_key": "tfrecord_image_key",
    "inputs": "input",
    "layout": "model_layout",
    "sha256": "model_sha256",
    "threshold": "near_duplicates",
    "trusted": "trust_model",
    "warmup": "warm_up",
}


def told(error: UserError | Message) -> str:
    """The text with flags.

    >>> told(UserError("add ", Parameter("trusted", True), subject=Parameter("model", "hub/m")))
    '--model hub/m: add --trust_model'
    """
    return shown(error.told(flag))


def flag(parameter: Parameter) -> str:
    """A parameter as it is written on the command line.

    >>> flag(Parameter("pool", "mean")), flag(Parameter("inputs")), flag(Parameter("trusted", True))
    ('--pool mean', '--input', '--trust_model')
    """
    name = f"--{_FLAGS.get(parameter.name, parameter.name)}"
    is_switch = parameter.value is None or parameter.value is True
    return name if is_switch else f"{name} {parameter.value}"
