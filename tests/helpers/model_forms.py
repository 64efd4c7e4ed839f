"""Image models in every published form, each saved by the library that publishers use for it."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import pathlib
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
import tensorflow_hub as hub
import tf_keras

from tests.helpers.soak import SOAK
from transforms.models import builtin

v1 = tf.compat.v1

SIZE = 32
WIDTH = 7


@dataclasses.dataclass(frozen=True)
class Form:
    """A saved model, and the same model in its own library.

    Attributes:
      model: what `--model` takes.
      direct: from a batch of what the model takes to [B, N], by its own library.
      flags: what else the command line needs.
      size: height and width of its input.
      takes: dtype of its pixels, "encoded" for encoded images, or "example" for tf.Examples.
      batch_size: where the model fixes it.
    """

    model: pathlib.Path | str
    direct: Callable[[Any], Any]
    flags: tuple[str, ...] = ()
    size: tuple[int, int] = (SIZE, SIZE)
    takes: str = "float32"
    batch_size: int | None = None


class Projection(tf.Module):
    """A convolution, a mean over the image and a dense layer, with random weights."""

    def __init__(self):
        super().__init__()
        self.kernel = tf.Variable(tf.random.stateless_normal([3, 3, 3, 12], [0, 1]))
        self.dense = tf.Variable(tf.random.stateless_normal([12, WIDTH], [0, 2]))

    def feature_map(self, images):
        hidden = tf.nn.relu(tf.nn.conv2d(tf.cast(images, tf.float32), self.kernel, 2, "SAME"))
        return tf.einsum("bhwc,cn->bhwn", hidden, self.dense)

    def vectors(self, images):
        return tf.reduce_mean(self.feature_map(images), [1, 2])


def pixels(dtype=tf.float32, batch=None, height=SIZE, width=SIZE) -> tf.TensorSpec:
    return tf.TensorSpec([batch, height, width, 3], dtype, name="images")


def module(
    directory: pathlib.Path, answer: Callable[[Projection, Any], Any], spec: tf.TensorSpec
) -> Callable:
    """Saves a tf.Module whose `__call__` is `answer`; returns the function itself."""

    class Model(Projection):
        @tf.function(input_signature=[spec])
        def __call__(self, images):
            return answer(self, images)

    model = Model()
    tf.saved_model.save(model, str(directory))
    return model


def callable_module(directory: pathlib.Path) -> Form:
    return Form(directory, module(directory, Projection.vectors, pixels()))


def free_size(directory: pathlib.Path, size: tuple[int, int] = (48, 40)) -> Form:
    direct = module(directory, Projection.vectors, pixels(height=None, width=None))
    return Form(directory, direct, ("--image_size", f"{size[0]}x{size[1]}"), size)


def fixed_batch(directory: pathlib.Path) -> Form:
    direct = module(directory, Projection.vectors, pixels(batch=4))
    return Form(directory, direct, ("--batch_size", "5"), batch_size=4)


def takes_dtype(dtype: str, directory: pathlib.Path) -> Form:
    scale = 1 / 255 if dtype == "uint8" else 1.0

    def answer(model: Projection, images: Any) -> Any:
        return model.vectors(tf.cast(images, tf.float32) * scale)

    return Form(directory, module(directory, answer, pixels(tf.as_dtype(dtype))), takes=dtype)


def computes_in(dtype: str, directory: pathlib.Path) -> Form:
    """A model whose output too is float16 or bfloat16."""

    def answer(model: Projection, images: Any) -> Any:
        return tf.reduce_mean(images, [1, 2]) @ tf.cast(model.dense[:3], dtype)

    return Form(directory, module(directory, answer, pixels(tf.as_dtype(dtype))), takes=dtype)


def one_by_one_output(directory: pathlib.Path) -> Form:
    def answer(model: Projection, images: Any) -> Any:
        return tf.reduce_mean(model.feature_map(images), [1, 2], keepdims=True)

    direct = module(directory, answer, pixels())
    return Form(directory, lambda images: direct(images)[:, 0, 0, :])


def feature_map(pool: str, directory: pathlib.Path) -> Form:
    direct = module(directory, Projection.feature_map, pixels())
    reduce = {"mean": tf.reduce_mean, "max": tf.reduce_max}[pool]
    return Form(directory, lambda images: reduce(direct(images), [1, 2]), ("--pool", pool))


def dict_output(directory: pathlib.Path, key: str | None = "features") -> Form:
    def answer(model: Projection, images: Any) -> Any:
        vectors = model.vectors(images)
        return {"features": vectors, "default": 2 * vectors, "extra": vectors[:, :2]}

    direct = module(directory, answer, pixels())
    flags = ("--output_key", key) if key else ()
    return Form(directory, lambda images: direct(images)[key or "default"], flags)


class Reusable(tf.train.Checkpoint):
    """The Reusable SavedModel interface, as TF Hub's documentation describes it."""

    def __init__(self):
        super().__init__()
        self.inner = Projection()
        self.variables = [self.inner.kernel, self.inner.dense]
        self.trainable_variables = [self.inner.dense]
        self.regularization_losses = [self.penalty]

    @tf.function(input_signature=[])
    def penalty(self):
        return 1e-4 * tf.nn.l2_loss(self.inner.dense)

    @tf.function
    def __call__(self, images, training=False, gain=1.0):
        vectors = gain * self.inner.vectors(images)
        return tf.nn.dropout(vectors, 0.5) if training else vectors


class InferenceOnly(Projection):
    """A root with `training` that has no default, as Sonnet's modules have."""

    @tf.function
    def __call__(self, images, training):
        vectors = self.vectors(images)
        return tf.nn.dropout(vectors, 0.5) if training else vectors


def with_training(directory: pathlib.Path) -> Form:
    model = InferenceOnly()
    for training in (True, False):
        model.__call__.get_concrete_function(pixels(), training)
    tf.saved_model.save(model, str(directory))
    return Form(directory, lambda images: model(images, False))


def reusable(
    directory: pathlib.Path, flags: tuple[str, ...] = (), gain: float = 1.0, free: bool = False
) -> Form:
    model = Reusable()
    spec = pixels(height=None, width=None) if free else pixels()
    for training in (True, False):
        scalar = tf.TensorSpec([], tf.float32)
        model.__call__.get_concrete_function(spec, training=training, gain=scalar)
        model.__call__.get_concrete_function(spec, training=training)
    tf.saved_model.save(model, str(directory))
    return Form(directory, lambda images: model(images, gain=gain), flags)


def hyper_parameter(directory: pathlib.Path) -> Form:
    return reusable(directory, ("--model_args", '{"gain": 2.5}'), 2.5)


def only_signatures(directory: pathlib.Path, name: str | None = None) -> Form:
    model = Projection()

    @tf.function(input_signature=[pixels()])
    def serve(images):
        return {"vectors": model.vectors(images)}

    @tf.function(input_signature=[pixels()])
    def other(images):
        return {"vectors": -model.vectors(images)}

    tf.saved_model.save(model, str(directory), {"serving_default": serve, "other": other})
    flags = ("--signature", name) if name else ()
    direct = other if name else serve
    return Form(directory, lambda images: direct(images)["vectors"], flags)


def keras_model(library: Any, outputs: str = "one") -> Any:
    """A functional model of `keras` or `tf_keras`, with batch normalisation and dropout."""
    layers = library.layers
    images = library.Input((SIZE, SIZE, 3))
    hidden = layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2)(images))
    hidden = layers.GlobalAveragePooling2D()(layers.Dropout(0.5)(hidden))
    features = layers.Dense(WIDTH, name="features")(hidden)
    extra = layers.Dense(2, name="extra")(hidden)
    several = {"list": [features, extra], "dict": {"features": features, "extra": extra}}
    return library.Model(images, several.get(outputs, features))


def keras_form(
    library: Any,
    save: Callable[[Any, str], Any],
    suffix: str,
    directory: pathlib.Path,
    outputs: str = "one",
    key: str | None = None,
) -> Form:
    model = keras_model(library, outputs)
    path = f"{directory}{suffix}"
    save(model, path)

    def direct(images: Any) -> Any:
        answer = model(images, training=False)
        return {"one": lambda: answer, "list": lambda: answer[1], "dict": lambda: answer["extra"]}[
            outputs
        ]()

    # tf_keras imports what such a file names.
    trust = ("--trust_model",) if library is tf_keras and suffix else ()
    return Form(path, direct, (*trust, *(("--output_key", key) if key else ())))


def export(model: Any, path: str) -> None:
    model.export(path, verbose=False) if isinstance(model, keras.Model) else model.export(path)


def save(model: Any, path: str) -> None:
    model.save(path)


def save_tf(model: Any, path: str) -> None:
    model.save(path, save_format="tf")


def application(library: Any, name: str, directory: pathlib.Path) -> Form:
    """A model of `applications` with random weights, exported."""
    size = (64, 64)
    library.utils.set_random_seed(1)
    make = getattr(library.applications, name)
    if not SOAK and name in _SMALLER:
        make = functools.partial(_SMALLER[name], library)
    model = make(weights=None, include_top=False, pooling="avg", input_shape=(*size, 3))
    export(model, str(directory))
    return Form(directory, lambda images: model(images, training=False), size=size)


# The same layers, fewer of them and narrower: at full size they take minutes and gigabytes, which
# `make soak` spends.


def _smaller_resnet(library: Any, **same: Any) -> Any:
    parts = importlib.import_module(f"{library.__name__}.src.applications.resnet")
    stack = parts.stack_residual_blocks_v1 if library is keras else parts.stack1

    def two_stacks(x: Any) -> Any:
        return stack(stack(x, 16, 2, stride1=1, name="conv2"), 32, 2, name="conv3")

    return parts.ResNet(two_stacks, preact=False, use_bias=True, **same)


def _smaller_efficientnet(library: Any, **same: Any) -> Any:
    parts = importlib.import_module(f"{library.__name__}.src.applications.efficientnet_v2")
    name = {"name" if library is keras else "model_name": "efficientnetv2-b0"}
    return parts.EfficientNetV2(0.25, 0.3, default_size=64, **name, **same)


def _smaller_convnext(library: Any, **same: Any) -> Any:
    parts = importlib.import_module(f"{library.__name__}.src.applications.convnext")
    return parts.ConvNeXt([1, 1, 2, 1], [24, 48, 96, 192], **same)


_SMALLER: dict[str, Callable[..., Any]] = {
    "ResNet50": _smaller_resnet,
    "EfficientNetV2B0": _smaller_efficientnet,
    "ConvNeXtTiny": _smaller_convnext,
}


def _decoded(encoded: Any) -> Any:
    image = tf.io.decode_image(encoded, channels=3, expand_animations=False)
    image = tf.image.convert_image_dtype(image, tf.float32)
    return tf.image.resize(image, (SIZE, SIZE))


def _tf1_placeholder(takes: str, batch: int | None) -> tuple[Any, Any]:
    """What is fed, and the pixels [B, H, W, 3] of it."""
    if takes == "float32":
        fed = v1.placeholder(tf.float32, [batch, SIZE, SIZE, 3])
        return fed, fed
    fed = encoded = v1.placeholder(tf.string, [None])
    if takes == "example":
        feature = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}
        encoded = tf.io.parse_example(fed, feature)["image/encoded"]
    spec = tf.TensorSpec((SIZE, SIZE, 3), tf.float32)
    return fed, tf.map_fn(_decoded, encoded, fn_output_signature=spec)


def tf1(
    directory: pathlib.Path,
    tags: tuple[str, ...] = ("serve",),
    signatures: tuple[str, ...] = ("serving_default",),
    takes: str = "float32",
    batch: int | None = None,
    train_graph: bool = False,
    flags: tuple[str, ...] = (),
) -> Form:
    """A model of TF1's graphs and sessions. Its n-th signature answers n times the first's vector.

    With `train_graph` there is a second graph, tagged "train", that answers the negative.
    """
    builder = v1.saved_model.Builder(str(directory))
    sessions = {}
    for tag, sign in {"": 1.0, **({"train": -1.0} if train_graph else {})}.items():
        with tf.Graph().as_default():
            fed, images = _tf1_placeholder(takes, batch)
            normal = v1.random_normal_initializer(seed=1)
            weights = v1.get_variable("weights", [3, WIDTH], initializer=normal)
            first = sign * tf.matmul(tf.reduce_mean(images, [1, 2]), weights)
            answers = {name: (n + 1) * first for n, name in enumerate(signatures)}
            info = v1.saved_model.build_tensor_info
            definitions = {
                name: v1.saved_model.build_signature_def(
                    {"images": info(fed)}, {"default": info(answer)}, "predict"
                )
                for name, answer in answers.items()
            }
            session = v1.Session()
            session.run(v1.global_variables_initializer())
            if tag:
                builder.add_meta_graph([tag], signature_def_map=definitions)
            else:
                builder.add_meta_graph_and_variables(session, tags, definitions)
            sessions[tag] = functools.partial(_run, session, fed, answers)
    builder.save()
    if not tags:
        (directory / "tfhub_module.pb").write_bytes(b"\x08\x03")
    chosen = flags[flags.index("--signature") + 1] if "--signature" in flags else signatures[-1]
    direct = functools.partial(sessions["train" if "train" in flags else ""], chosen)
    return Form(directory, direct, flags, takes=takes, batch_size=batch)


def _run(session: Any, fed: Any, answers: dict[str, Any], name: str, batch: Any) -> Any:
    return session.run(answers[name], {fed: batch.numpy()})


def hub_module(directory: pathlib.Path, *flags: str) -> Form:
    signatures = ("default", "image_feature_vector")
    return tf1(directory, (), signatures, train_graph=bool(flags), flags=flags)


def builtin_model(directory: pathlib.Path) -> Form:
    direct = hub.load(builtin.exported("feature_vector"))
    return Form(builtin.NAME, direct, size=builtin.IMAGE_SIZE)


_bind = functools.partial
FORMS: dict[str, Callable[[pathlib.Path], Form]] = {
    "the built-in model": builtin_model,
    "tf.Module, callable": callable_module,
    "tf.Module with training": with_training,
    "Reusable SavedModel": reusable,
    "Reusable SavedModel, --model_args": hyper_parameter,
    "tf.Module, free HxW": free_size,
    "tf.Module, batch of 4": fixed_batch,
    "tf.Module, uint8 input": _bind(takes_dtype, "uint8"),
    "tf.Module, float16 input": _bind(takes_dtype, "float16"),
    "tf.Module, bfloat16 input": _bind(takes_dtype, "bfloat16"),
    "tf.Module, float16 throughout": _bind(computes_in, "float16"),
    "tf.Module, bfloat16 throughout": _bind(computes_in, "bfloat16"),
    "tf.Module, [B, 1, 1, N]": one_by_one_output,
    "tf.Module, [B, H, W, C] --pool mean": _bind(feature_map, "mean"),
    "tf.Module, [B, H, W, C] --pool max": _bind(feature_map, "max"),
    "tf.Module, dict --output_key": dict_output,
    "tf.Module, dict with default": _bind(dict_output, key=None),
    "signatures only": only_signatures,
    "signatures only, --signature": _bind(only_signatures, name="other"),
    "tf_keras save(save_format='tf')": _bind(keras_form, tf_keras, save_tf, ""),
    "tf_keras save, list --output_key": _bind(
        keras_form, tf_keras, save_tf, "", outputs="list", key="1"
    ),
    "tf_keras save, dict --output_key": _bind(
        keras_form, tf_keras, save_tf, "", outputs="dict", key="extra"
    ),
    "tf_keras export()": _bind(keras_form, tf_keras, export, ""),
    "tf_keras .keras": _bind(keras_form, tf_keras, save, ".keras"),
    "tf_keras .keras, list --output_key": _bind(
        keras_form, tf_keras, save, ".keras", outputs="list", key="extra"
    ),
    "Keras 3 export()": _bind(keras_form, keras, export, ""),
    "Keras 3 export(), list --output_key": _bind(
        keras_form, keras, export, "", outputs="list", key="output_1"
    ),
    "Keras 3 export(), dict --output_key": _bind(
        keras_form, keras, export, "", outputs="dict", key="extra"
    ),
    "Keras 3 tf.saved_model.save": _bind(keras_form, keras, tf.saved_model.save, ""),
    "Keras 3 .keras": _bind(keras_form, keras, save, ".keras"),
    "Keras 3 .keras, list --output_key": _bind(
        keras_form, keras, save, ".keras", outputs="list", key="extra"
    ),
    "Keras 3 .keras, dict --output_key": _bind(
        keras_form, keras, save, ".keras", outputs="dict", key="extra"
    ),
    "TF1 Hub module": hub_module,
    "TF1 Hub module, --signature": lambda at: hub_module(at, "--signature", "default"),
    "TF1 Hub module, --tags": lambda at: hub_module(at, "--tags", "train"),
    "TF1 SavedModel": tf1,
    "TF1 SavedModel, batch of 4": _bind(tf1, batch=4, flags=("--batch_size", "5")),
    "TF1 SavedModel, encoded images": _bind(tf1, takes="encoded"),
    "TF1 SavedModel, tf.Examples": _bind(tf1, takes="example"),
}
APPLICATIONS = ("MobileNetV2", "ResNet50", "EfficientNetV2B0", "ConvNeXtTiny")
FORMS |= {
    f"{library.__name__} {name}": functools.partial(application, library, name)
    for library in (keras, tf_keras)
    for name in APPLICATIONS
}
