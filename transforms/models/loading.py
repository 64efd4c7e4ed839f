"""Any published form of an image model to one callable.

Forms: Reusable SavedModels (callable root, with `training` and hyper-parameters), SavedModels with
signatures (`tf.saved_model.save`, Keras 2, Keras 3 `model.export()`), `.keras` files, TF1 Hub
modules and TF1 SavedModels, those that take encoded images or serialised `tf.Example`s included.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import zipfile
from collections.abc import Callable, Iterable
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.images.spec import InputKind
from transforms.machine import entries
from transforms.models import trust, vectors
from transforms.models.source import ModelSource, check_exists

_PARSE_OPS = ("ParseExample", "ParseSingleExample")


@dataclasses.dataclass(frozen=True)
class LoadedModel:
    """A model's function, and what is fixed about its input.

    Attributes:
      call: from a batch of images to float32 [B, N]. Images are [B, H, W, 3], float32 in [0, 1] or
        uint8; or strings [B], where the model decodes them itself.
      form: what the model is, in words.
      function: name of what is called: `__call__` or a signature.
      kind: whether it takes pixels, encoded images or serialised `tf.Example`s.
      dtype: of its input, such as "float32".
      batch_size, height, width: where its input fixes them, else None.
      owner: the loaded object; keeps the variables alive.
    """

    call: Callable[[Any], Any]
    form: str
    function: str
    kind: InputKind
    dtype: str
    batch_size: int | None
    height: int | None
    width: int | None
    owner: Any


def load_model(source: ModelSource) -> LoadedModel:
    """Loads a model and finds the function that takes images.

    Raises:
      UserError: there is no model, it is damaged or not trusted, or has no function that takes
        images and gives one vector each; the message lists what there is.
    """
    check_exists(source)
    if source.is_keras_file:
        if not source.trusted:
            trust.refuse_if_untrusted(source.name, trust.check_keras_file(source.local_path()))
        return _load_keras(source)
    path = source.local_path()
    import tensorflow as tf

    try:
        graphs = tf.__internal__.saved_model.parse_saved_model(path).meta_graphs
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _damaged(source, error) from error
    tags = _tags(source, graphs)
    if not (source.trusted or source.is_builtin):
        trust.refuse_if_untrusted(source.name, trust.check_program(path, source.signature, tags))
    try:
        model = tf.saved_model.load(path, tags=tags)
    except Exception as error:  # a damaged model raises anything, even IndexError
        raise _damaged(source, error) from error
    if source.signature is None and callable(model) and _concrete_functions(model):
        return _from_callable(source, model)
    with_objects = any(graph.object_graph_def.nodes for graph in graphs)
    form = "SavedModel with signatures" if with_objects else "TF1 Hub module or TF1 SavedModel"
    return _from_signature(source, model, form)


def _damaged(source: ModelSource, error: Exception) -> UserError:
    """What TensorFlow says of a directory that it cannot load, and which files are in it."""
    root = source.local_path()
    files = [os.path.relpath(path, root) for path in entries.tree_files(root)]
    there = ", ".join(files[:10]) + (", …" if len(files) > 10 else "")
    return UserError(
        f"cannot be loaded: {one_line(error)}; it holds {there}", subject=source.subject
    )


def _tags(source: ModelSource, graphs: Iterable[Any]) -> list[str]:
    """Which of several graphs to load: for serving, or the untagged one of a TF1 Hub module."""
    tag_sets = [sorted(graph.meta_info_def.tags) for graph in graphs]
    if not tag_sets:
        raise UserError("saved_model.pb is damaged: it holds no graph", subject=source.subject)
    listed = "; ".join(",".join(tags) or "(none)" for tags in tag_sets)
    if source.tags is not None:
        if sorted(source.tags) in tag_sets:
            return list(source.tags)
        asked = ",".join(source.tags) or "(none)"
        raise UserError(
            f"{source.name} has no such graph; it has {listed}", subject=Parameter("tags", asked)
        )
    if len(tag_sets) == 1:
        return tag_sets[0]
    for tags in (["serve"], []):
        if tags in tag_sets:
            return tags
    raise UserError(
        "choose one of its graphs with ", Parameter("tags"), f": {listed}", subject=source.subject
    )


def _concrete_functions(model: Any) -> list[Any]:
    return list(getattr(model.__call__, "concrete_functions", ()))


def _from_callable(source: ModelSource, model: Any) -> LoadedModel:
    known = inspect.getfullargspec(model.__call__)
    names = [*known.args[1:], *known.kwonlyargs] if known.args else known.kwonlyargs
    names = [name for name in names if name != "self"]
    arguments = dict(source.arguments)
    unknown = [name for name in arguments if name not in names]
    if unknown:
        raise UserError(
            f"{source.name} takes no {', '.join(unknown)}; it takes "
            f"{', '.join(names) or 'no arguments besides the images'}",
            subject=Parameter("arguments"),
        )
    if "training" in names:
        arguments.setdefault("training", False)
    specs = [function.inputs[0] for function in _concrete_functions(model) if function.inputs]
    shapes = {(spec.dtype, tuple(spec.shape)) for spec in specs if spec.shape.rank in (1, 4)}
    if not shapes:
        seen = ", ".join(str(spec.shape) for spec in specs) or "nothing"
        raise UserError(f"takes {seen}, not images [B, H, W, 3]", subject=source.subject)
    dtype = next(iter(shapes))[0]
    fixed = [_agreed(sizes) for sizes in zip(*(shape for _, shape in shapes), strict=False)]
    graphs = [function.graph for function in _concrete_functions(model)]
    form = "Reusable SavedModel" if hasattr(model, "variables") else "callable SavedModel"

    def call(images: Any) -> Any:
        return model(images, **arguments)

    return _loaded(source, call, dtype, fixed, graphs, form, "__call__", model)


def _agreed(sizes: tuple[int | None, ...]) -> int | None:
    """The size that all traces of a function agree on, or None."""
    return sizes[0] if len(set(sizes)) == 1 else None


def _from_signature(source: ModelSource, model: Any, form: str) -> LoadedModel:
    name = _signature_name(source, list(model.signatures))
    signature = model.signatures[name]
    specs = signature.structured_input_signature[1]
    arguments = dict(source.arguments)
    unknown = [key for key in arguments if key not in specs]
    if unknown:
        raise UserError(
            f"signature {name} of {source.name} takes no {', '.join(unknown)}; it takes "
            f"{', '.join(sorted(specs))}",
            subject=Parameter("arguments"),
        )
    images_key = _image_input(source, name, sorted(specs.keys() - arguments.keys()))
    spec = specs[images_key]
    if spec.shape.rank not in (None, 1, 4):
        raise UserError(
            f"signature {name} takes {spec.shape}, not images [B, H, W, 3]", subject=source.subject
        )
    fixed = list(spec.shape) if spec.shape.rank else []

    def call(images: Any) -> Any:
        return signature(**{images_key: images}, **_constants(arguments, specs))

    return _loaded(source, call, spec.dtype, fixed, [signature.graph], form, name, model)


def _constants(arguments: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(value, specs[name].dtype) for name, value in arguments.items()}


def _signature_name(source: ModelSource, names: list[str]) -> str:
    listed = ", ".join(sorted(names)) or "none"
    if source.signature is not None:
        if source.signature in names:
            return source.signature
        raise UserError(
            f"{source.name} has no such signature; it has {listed}",
            subject=Parameter("signature", source.signature),
        )
    for name in (f"image_{source.task}", "serving_default", "default"):
        if name in names:
            return name
    if len(names) == 1:
        return names[0]
    raise UserError(
        "neither callable nor with a signature serving_default or default; choose with ",
        Parameter("signature"),
        f": {listed}",
        subject=source.subject,
    )


def _image_input(source: ModelSource, signature: str, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    for name in ("images", "image", "inputs", "input"):
        if name in names:
            return name
    raise UserError(
        f"signature {signature} has the inputs {', '.join(names)}; give all but that of the images "
        "with ",
        Parameter("arguments"),
        subject=source.subject,
    )


def _loaded(
    source: ModelSource,
    function: Callable[[Any], Any],
    dtype: Any,
    fixed: list[int | None],
    graphs: list[Any],
    form: str,
    name: str,
    owner: Any,
) -> LoadedModel:
    import tensorflow as tf

    if dtype == tf.string:
        kind: InputKind = "example" if any(map(_parses_examples, graphs)) else "encoded"
    else:
        kind = "pixels"
    if not (dtype.is_floating or dtype in (tf.uint8, tf.string)):
        raise UserError(
            f"takes {dtype.name}; images are given as uint8, as float in [0, 1] or encoded",
            subject=source.subject,
        )
    if len(fixed) == 4 and fixed[3] not in (3, None):
        raise UserError(
            f"takes images of shape {fixed}; the last dimension must be 3, the RGB channels (NHWC)",
            subject=source.subject,
        )

    def call(images: Any) -> Any:
        if kind == "pixels":
            if images.dtype != dtype:  # by way of float32, as float16 rounds the scale itself
                images = tf.image.convert_image_dtype(images, tf.float32)
            images = tf.image.convert_image_dtype(images, dtype, saturate=True)
        return vectors.vector(function(images), source)

    sizes = [*fixed, None, None, None][:3] if kind == "pixels" else [*fixed[:1], None, None, None]
    return LoadedModel(call, form, name, kind, dtype.name, sizes[0], sizes[1], sizes[2], owner)


def _parses_examples(graph: Any) -> bool:
    """Whether a graph, or a function in its library, parses `tf.Example`s."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return any(node.op.startswith(_PARSE_OPS) for node in nodes)


def _load_keras(source: ModelSource) -> LoadedModel:
    """A `.keras` file, with the Keras that wrote it."""
    path = source.local_path()
    given = {"signature": source.signature, "tags": source.tags, "arguments": source.arguments}
    for name in (name for name, value in given.items() if value):
        raise UserError(
            f"{source.name}: a .keras file has none; leave it out", subject=Parameter(name)
        )
    try:
        with zipfile.ZipFile(path) as archive:
            version = str(json.loads(archive.read("metadata.json"))["keras_version"])
        keras = importlib.import_module("tf_keras" if version.startswith("2.") else "keras")
        model = keras.models.load_model(path, compile=False, safe_mode=not source.trusted)
    except Exception as error:  # a damaged file raises anything
        raise UserError(f"cannot be loaded: {one_line(error)}", subject=source.subject) from error
    if len(model.inputs) != 1:
        listed = ", ".join(tensor.name for tensor in model.inputs)
        raise UserError(f"has the inputs {listed}; one is needed", subject=source.subject)
    names = list(getattr(model, "output_names", ()))

    def function(images: Any) -> Any:
        answer = model(images, training=False)
        return dict(zip(names, answer, strict=True)) if isinstance(answer, list) else answer

    import tensorflow as tf

    dtype = tf.as_dtype(model.inputs[0].dtype)
    fixed = list(model.inputs[0].shape)
    return _loaded(source, function, dtype, fixed, [], f"Keras {version} file", "call", model)
