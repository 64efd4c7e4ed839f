"""Any published form of an image model to one callable.

Forms: Reusable SavedModels (callable root, with `training` and hyper-parameters), SavedModels with
signatures (`tf.saved_model.save`, Keras 2, Keras 3 `model.export()`), `.keras` files, TF1 Hub
modules and TF1 SavedModels, those that take encoded images or serialised `tf.Example`s included.
"""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from transforms.errors import Parameter, UserError, one_line
from transforms.images.spec import InputKind
from transforms.machine import entries
from transforms.models import copies, pixels, trust, vectors
from transforms.models.arguments import image_input, refuse_missing, refuse_unknown
from transforms.models.keras_file import open_keras_file
from transforms.models.source import ModelSource, check_exists
from transforms.models.trust.program import Program, UndecidedError

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
    try:
        copies.refuse_damaged(source.local_path())
    except OSError as error:
        raise UserError(str(error), subject=source.subject) from error
    if source.is_keras_file:
        return _from_keras_file(source)
    path = source.local_path()
    import tensorflow as tf

    try:
        graphs = tf.__internal__.saved_model.parse_saved_model(path).meta_graphs
    except (OSError, ValueError, tf.errors.OpError) as error:
        raise _damaged(source, error) from error
    tags = _tags(source, graphs)
    if not source.trusted:
        report = trust.check_program(path, source.signature, tags, source.task)
        trust.refuse_if_untrusted(source.name, report)
    signature = _called(source, graphs, tags)
    try:
        model = tf.saved_model.load(path, tags=tags)
    except Exception as error:  # a damaged model raises anything, even IndexError
        raise _damaged(source, error) from error
    if signature is None:
        if not (callable(model) and _concrete_functions(model)):
            raise UserError("saved_model.pb is damaged", subject=source.subject)
        return _from_callable(source, model)
    with_objects = any(graph.object_graph_def.nodes for graph in graphs)
    form = "SavedModel with signatures" if with_objects else "TF1 Hub module or TF1 SavedModel"
    return _from_signature(source, model, signature, form)


def _called(source: ModelSource, graphs: Sequence[Any], tags: list[str]) -> str | None:
    """The signature that is called; None: the model itself. As `trust` has it."""
    graph = next(g for g in graphs if sorted(g.meta_info_def.tags) == sorted(tags))
    try:
        program = Program(graph, source.local_path(), is_only_graph=len(graphs) == 1)
        names = program.signatures
        return program.called(source.signature, source.task)
    except IndexError as error:
        raise UserError("saved_model.pb is damaged", subject=source.subject) from error
    except UndecidedError:
        listed = ", ".join(names) or "none"
    if source.signature is not None:
        raise UserError(
            f"{source.name} has no such signature; it has {listed}",
            subject=Parameter("signature", source.signature),
        )
    raise UserError(
        "neither callable nor with a signature serving_default or default; choose with ",
        Parameter("signature"),
        f": {listed}",
        subject=source.subject,
    )


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
    refuse_unknown(source, source.name, names)
    arguments = dict(source.arguments)
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
    inputs = _inputs_of_trace(_concrete_functions(model)[0], {*_with_default(known), *arguments})
    if len(inputs) > 1:
        refuse_missing(source, "", inputs, next(iter(inputs)))
    form = "Reusable SavedModel" if hasattr(model, "variables") else "callable SavedModel"

    def call(images: Any) -> Any:
        return model(images, **arguments)

    return _loaded(source, call, dtype, fixed, graphs, form, "__call__", model)


def _with_default(known: inspect.FullArgSpec) -> list[str]:
    """Arguments that need not be given."""
    optional = known.args[len(known.args) - len(known.defaults or ()) :]
    return [*optional, *(known.kwonlydefaults or ()), "training"]


def _inputs_of_trace(function: Any, given: Collection[str]) -> dict[str, Any]:
    """The tensors that must be given to a trace of `__call__`, by name, the images first."""
    import tensorflow as tf

    positional, named = function.structured_input_signature
    tensors = [*tf.nest.flatten(positional), *(v for k, v in named.items() if k not in given)]
    specs = [spec for spec in tensors if isinstance(spec, tf.TensorSpec)]
    return {
        spec.name or f"input {at}": spec for at, spec in enumerate(specs) if spec.name not in given
    }


def _agreed(sizes: tuple[int | None, ...]) -> int | None:
    """The size that all traces of a function agree on, or None."""
    return sizes[0] if len(set(sizes)) == 1 else None


def _from_signature(source: ModelSource, model: Any, name: str, form: str) -> LoadedModel:
    signature = model.signatures[name]
    specs = signature.structured_input_signature[1]
    called = f"signature {name} of {source.name}"
    refuse_unknown(source, called, sorted(specs))
    arguments = dict(source.arguments)
    left = {key: specs[key] for key in sorted(specs.keys() - arguments.keys())}
    images_key = image_input(source, f"signature {name}", left)
    spec = specs[images_key]
    fixed = list(spec.shape) if spec.shape.rank else []

    def call(images: Any) -> Any:
        return signature(**{images_key: images}, **_constants(arguments, specs))

    return _loaded(source, call, spec.dtype, fixed, [signature.graph], form, name, model)


def _constants(arguments: dict[str, Any], specs: dict[str, Any]) -> dict[str, Any]:
    import tensorflow as tf

    return {name: tf.constant(value, specs[name].dtype) for name, value in arguments.items()}


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
    sizes = (*fixed[:1], None, None, None)
    if kind == "pixels":
        sizes = pixels.image_sizes(fixed, dtype.is_floating, source)
    else:
        pixels.refuse_pixel_parameters(source)

    def call(images: Any) -> Any:
        if kind == "pixels":
            images = pixels.model_input(images, dtype, source)
        return vectors.vector(function(images), source)

    return LoadedModel(call, form, name, kind, dtype.name, sizes[0], sizes[1], sizes[2], owner)


def _parses_examples(graph: Any) -> bool:
    """Whether a graph, or a function in its library, parses `tf.Example`s."""
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return any(node.op.startswith(_PARSE_OPS) for node in nodes)


def _from_keras_file(source: ModelSource) -> LoadedModel:
    model, version = open_keras_file(source)
    import tensorflow as tf

    inputs = {
        tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype, tensor.name)
        for tensor in model.inputs
    }
    if len(inputs) > 1:
        image_input(source, "", inputs)
    names = list(getattr(model, "output_names", ()))

    def function(images: Any) -> Any:
        answer = model(images, training=False)
        return dict(zip(names, answer, strict=True)) if isinstance(answer, list) else answer

    [spec] = inputs.values()
    form = f"Keras {version} file"
    return _loaded(source, function, spec.dtype, list(spec.shape), [], form, "call", model)
