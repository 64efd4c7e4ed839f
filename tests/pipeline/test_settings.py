"""Options and a model to settings: what is resolved, what is refused, and the fingerprint."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Sequence

import pytest

from pipeline import settings
from pipeline.options.door import read_options
from pipeline.settings import Settings
from pipeline.terminal.errors import told
from tests.helpers.tiny_model import TINY_SIZE, TINY_WIDTH, save_tiny_model
from transforms.errors import UserError
from transforms.models import builtin

CLASSIFY = ("--task", "classification")


def resolve(model: pathlib.Path | str, *flags: str, containers: Sequence[str] = ()) -> Settings:
    words = ["--input", "in", "--output", "out", "--model", str(model), *flags]
    options = read_options(words)
    source = settings.open_model(options.model, options.engine)
    return settings.resolve(options, source, list(containers))


def mistake(model: pathlib.Path | str, *flags: str, containers: Sequence[str] = ()) -> str:
    """What the person is told: one line."""
    with pytest.raises(UserError) as info:
        resolve(model, *flags, containers=containers)
    message = told(info.value)
    assert len(message.splitlines()) == 1
    return message


def save_model(
    directory: pathlib.Path, size: tuple[int | None, int | None], answer: Callable
) -> pathlib.Path:
    """Saves a callable SavedModel for images of `size`."""
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *size, 3], tf.float32)])
        def __call__(self, images):
            return answer(images)

    tf.saved_model.save(Model(), str(directory))
    return directory


def mean_colour(images):
    import tensorflow as tf

    return tf.reduce_mean(images, [1, 2])


@pytest.fixture(scope="module")
def any_size_model(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return save_model(tmp_path_factory.mktemp("model") / "m", (None, None), mean_colour)


def write_labels(path: pathlib.Path, count: int) -> str:
    path.write_text("".join(f"class {number}\n" for number in range(count)), encoding="utf-8")
    return str(path)


def write_examples(path: pathlib.Path) -> str:
    import tensorflow as tf

    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"x"])),
        "caption": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a cat"])),
        "box": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5, 1.5])),
        "id": tf.train.Feature(int64_list=tf.train.Int64List(value=[7])),
    }
    with tf.io.TFRecordWriter(str(path)) as writer:
        example = tf.train.Example(features=tf.train.Features(feature=features))
        writer.write(example.SerializeToString())
    return str(path)


# The image size


def image_size(resolved: Settings) -> tuple[int, int]:
    return resolved.image.height, resolved.image.width


def test_a_model_that_fixes_its_size_needs_no_option(tiny_model: pathlib.Path) -> None:
    assert image_size(resolve(tiny_model)) == (TINY_SIZE, TINY_SIZE)
    assert image_size(resolve(tiny_model, "--image_size", f"{TINY_SIZE}")) == (16, 16)


def test_a_model_of_any_size_takes_the_options(any_size_model: pathlib.Path) -> None:
    assert image_size(resolve(any_size_model, "--image_size", "32x48")) == (32, 48)


def test_a_model_of_any_size_without_the_option_says_what_to_give(
    any_size_model: pathlib.Path,
) -> None:
    message = mistake(any_size_model)
    assert f"--model {any_size_model}" in message
    assert "--image_size HxW" in message


def test_the_builtin_model_knows_its_size_and_takes_another() -> None:
    assert image_size(resolve(builtin.NAME)) == (224, 224)
    assert image_size(resolve(builtin.NAME, "--image_size", "64x96")) == (64, 96)


def test_a_size_that_the_model_does_not_take_is_refused(tiny_model: pathlib.Path) -> None:
    message = mistake(tiny_model, "--image_size", "16x17")
    assert message == "--image_size 16x17: the model takes 16x16 only"


def test_a_model_that_fixes_one_side_says_which(tmp_path: pathlib.Path) -> None:
    model = save_model(tmp_path / "m", (None, 16), mean_colour)
    assert image_size(resolve(model, "--image_size", "40x16")) == (40, 16)
    assert "--image_size" in mistake(model)
    message = mistake(model, "--image_size", "40x17")
    assert "None" not in message
    assert "16" in message


def test_a_model_that_decodes_by_itself_cannot_be_told_how(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    class Decoder(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def __call__(self, encoded):
            decoded = tf.map_fn(tf.io.decode_png, encoded, fn_output_signature=tf.uint8)
            return tf.reduce_mean(tf.cast(decoded, tf.float32), [1, 2])

    tf.saved_model.save(Decoder(), str(tmp_path / "m"))
    assert resolve(tmp_path / "m").image.kind == "encoded"
    message = mistake(tmp_path / "m", "--decode", "fast")
    assert message == "--decode fast: the model decodes the images itself"


# A model that cannot be used


def test_a_model_that_fails_on_a_blank_image_is_refused(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    def picky(images):
        tf.debugging.Assert(tf.reduce_max(images) > 0.5, ["the image is too dark"])
        return mean_colour(images)

    message = mistake(save_model(tmp_path / "m", (16, 16), picky))
    assert "fails on blank float32 images [1, 16, 16, 3]" in message
    assert "the image is too dark" in message


def test_a_model_that_answers_maps_instead_of_vectors_is_refused(tmp_path: pathlib.Path) -> None:
    message = mistake(save_model(tmp_path / "m", (16, 16), lambda images: images))
    assert "gives a feature map [B, 16, 16, 3]" in message
    assert "--pool mean" in message


def test_a_callable_model_with_several_outputs_is_refused_in_clear_words(
    tmp_path: pathlib.Path,
) -> None:
    def two(images):
        return {"boxes": images, "vector": mean_colour(images)}

    message = mistake(save_model(tmp_path / "m", (16, 16), two))
    assert "output" in message
    assert "Expected any non-tensor type" not in message


def test_a_missing_model_is_refused(tmp_path: pathlib.Path) -> None:
    assert "no such file or directory" in mistake(tmp_path / "gone")


# Class names, top_k, activation


def test_feature_vectors_have_no_classes(tiny_model: pathlib.Path) -> None:
    resolved = resolve(tiny_model).part_format
    assert (resolved.task, resolved.width) == ("feature_vector", TINY_WIDTH)
    assert (resolved.top_k, resolved.class_names, resolved.activation) == (0, (), "none")


def test_the_builtin_model_knows_its_classes_and_activation() -> None:
    resolved = resolve(builtin.NAME, *CLASSIFY).part_format
    assert (resolved.width, resolved.top_k, resolved.activation) == (1000, 5, "softmax")
    assert resolved.class_names == builtin.class_names()
    resolved = resolve(builtin.NAME, *CLASSIFY, "--top_k", "0", "--activation", "none").part_format
    assert (resolved.top_k, resolved.activation) == (0, "none")


def test_without_class_names_there_is_no_top_k_unless_asked_for(tiny_model: pathlib.Path) -> None:
    resolved = resolve(tiny_model, *CLASSIFY).part_format
    assert (resolved.top_k, resolved.class_names, resolved.activation) == (0, (), "none")
    assert resolve(tiny_model, *CLASSIFY, "--top_k", "3").part_format.top_k == 3


def test_with_class_names_there_are_five_best_or_as_many_as_there_are(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    labels = write_labels(tmp_path / "labels.txt", TINY_WIDTH)
    resolved = resolve(tiny_model, *CLASSIFY, "--labels", labels).part_format
    assert (resolved.top_k, resolved.activation) == (5, "none")
    assert resolved.class_names == tuple(f"class {number}" for number in range(TINY_WIDTH))
    more = resolve(tiny_model, *CLASSIFY, "--labels", labels, "--top_k", "99").part_format
    assert more.top_k == TINY_WIDTH


@pytest.mark.parametrize("count", [0, TINY_WIDTH - 1, TINY_WIDTH + 1])
def test_class_names_of_another_number_are_refused(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, count: int
) -> None:
    labels = write_labels(tmp_path / "labels.txt", count)
    message = mistake(tiny_model, *CLASSIFY, "--labels", labels)
    assert f"--labels {labels}: {count} names, but the model gives {TINY_WIDTH} logits" in message


def test_a_labels_file_that_cannot_be_read_is_named(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    gone = tmp_path / "gone.txt"
    assert f"--labels {gone}: cannot be read" in mistake(
        tiny_model, *CLASSIFY, "--labels", str(gone)
    )
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    assert f"--labels {binary}: cannot be read" in mistake(
        tiny_model, *CLASSIFY, "--labels", str(binary)
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_class_names_from_any_editor_are_read_as_they_are(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, encoding: str, newline: str
) -> None:
    names = ["Bäume", "a cat", *(str(number) for number in range(TINY_WIDTH - 2))]
    path = tmp_path / "labels.txt"
    path.write_text("".join(name + newline for name in names), encoding, newline="")
    resolved = resolve(tiny_model, *CLASSIFY, "--labels", str(path)).part_format
    assert list(resolved.class_names) == names


# Kept columns


def test_kept_columns_have_the_types_of_the_records(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    records = write_examples(tmp_path / "data.tfrecord")
    flags = ("--keep", "box,caption", "--tfrecord_id_key", "id")
    resolved = resolve(tiny_model, *flags, containers=[records])
    kept = [(column.name, column.kind, column.is_list) for column in resolved.part_format.kept]
    assert kept == [("box", "float32", True), ("caption", "string", False)]
    assert resolved.examples.keep == resolved.part_format.kept
    assert (resolved.examples.image_key, resolved.examples.id_key) == ("image/encoded", "id")


def test_a_mistyped_feature_is_told_before_anything_is_computed(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    records = [write_examples(tmp_path / "data.tfrecord")]
    for option in ("--tfrecord_image_key", "--tfrecord_id_key"):
        message = mistake(tiny_model, option, "imgae", containers=records)
        assert message.startswith(f"{option} imgae: ")
        assert "have box, caption, id, image/encoded" in message
    assert "no TFRecord files" in mistake(tiny_model, "--tfrecord_id_key", "id")


def test_a_model_for_single_images_says_so(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    model = save_model(tmp_path / "m", (16, 16), lambda images: tf.reshape(images, [1, 768]))
    assert "--batch_size 1" in mistake(model)
    assert resolve(model, "--batch_size", "1").part_format.width == 768


def test_kept_columns_need_records(tiny_model: pathlib.Path) -> None:
    assert "--keep takes features of TFRecord files" in mistake(tiny_model, "--keep", "caption")


def test_a_kept_column_that_is_not_there_or_is_taken_is_refused(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    records = [write_examples(tmp_path / "data.tfrecord")]
    message = mistake(tiny_model, "--keep", "captoin", containers=records)
    assert message.startswith("--keep captoin: ")
    assert "have box, caption, id, image/encoded" in message
    message = mistake(tiny_model, "--keep", "caption,id", containers=records)
    assert message.startswith("--keep id: ")


# The fingerprint


def fingerprint(model: pathlib.Path | str, *flags: str, **kwargs: Sequence[str]) -> dict[str, str]:
    return dict(resolve(model, *flags, **kwargs).part_format.fingerprint)


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    assert before.keys() == after.keys()
    return {name for name in before if before[name] != after[name]}


def test_the_fingerprint_is_the_same_for_the_same_settings(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path
) -> None:
    before = fingerprint(tiny_model)
    assert fingerprint(tiny_model) == before
    assert fingerprint(shutil.copytree(tiny_model, tmp_path / "copy")) == before
    same = ("--image_size", "16x16", "--pixels", "exact", "--decode", "exact")
    assert fingerprint(tiny_model, *same) == before


@pytest.mark.parametrize(
    "flags",
    [
        ("--batch_size", "5"),
        ("--rows_per_file", "7"),
        ("--max_error_rate", "0.1"),
        ("--overwrite",),
        ("--verbose",),
        ("--direct_num_workers", "2"),
    ],
)
def test_what_does_not_change_a_row_does_not_change_the_fingerprint(
    tiny_model: pathlib.Path, flags: tuple[str, ...]
) -> None:
    assert fingerprint(tiny_model, *flags) == fingerprint(tiny_model)


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (("--pixels", "uint8"), {"pixels"}),
        (("--decode", "fast"), {"decode"}),
        (("--label_from_parent",), {"label_from_parent"}),
        (("--tfrecord_image_key", "jpg"), {"tfrecord_image_key"}),
        (CLASSIFY, {"task", "vector"}),
        ((*CLASSIFY, "--top_k", "2"), {"task", "vector", "top_k"}),
        (
            (*CLASSIFY, "--top_k", "2", "--activation", "softmax"),
            {"task", "vector", "top_k", "activation"},
        ),
    ],
)
def test_a_setting_that_changes_rows_changes_its_entry(
    tiny_model: pathlib.Path, flags: tuple[str, ...], names: set[str]
) -> None:
    assert changed(fingerprint(tiny_model), fingerprint(tiny_model, *flags)) == names


@pytest.mark.parametrize(
    ("flags", "entry"),
    [
        (("--value_range", "0,255"), ("value_range", "0,255")),
        (("--value_range", "-1,1"), ("value_range", "-1,1")),
    ],
)
def test_a_later_setting_is_an_entry_only_where_it_is_not_the_default(
    tiny_model: pathlib.Path, flags: tuple[str, ...], entry: tuple[str, str]
) -> None:
    before = fingerprint(tiny_model)
    assert "value_range" not in before and "model_layout" not in before
    assert fingerprint(tiny_model, "--value_range", "0,1", "--model_layout", "NHWC") == before
    assert fingerprint(tiny_model, *flags) == {**before, entry[0]: entry[1]}


def test_an_nchw_model_is_told_what_helps_and_runs_with_it(tmp_path: pathlib.Path) -> None:
    import tensorflow as tf

    class Model(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 3, None, None], tf.float32)])
        def __call__(self, images):
            return tf.reduce_mean(images, [2, 3])

    tf.saved_model.save(Model(), str(tmp_path / "m"))
    message = mistake(tmp_path / "m", "--image_size", "3x32")
    assert message.endswith(
        "takes [B, 3, H, W] (NCHW), images are [B, H, W, 3]; --model_layout NCHW transposes them"
    )
    flags = ("--model_layout", "NCHW", "--image_size", "20x30")
    assert image_size(resolve(tmp_path / "m", *flags)) == (20, 30)
    assert fingerprint(tmp_path / "m", *flags)["model_layout"] == "NCHW"


def test_other_weights_another_size_other_names_and_columns_change_the_fingerprint(
    tmp_path: pathlib.Path, tiny_model: pathlib.Path, any_size_model: pathlib.Path
) -> None:
    retrained = save_tiny_model(tmp_path / "m", seed=1)
    assert changed(fingerprint(tiny_model), fingerprint(retrained)) == {"model_sha256"}
    assert changed(
        fingerprint(any_size_model, "--image_size", "16x16"),
        fingerprint(any_size_model, "--image_size", "16x17"),
    ) == {"image_size"}
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    write_labels(one, TINY_WIDTH)
    other.write_text("x\n" * TINY_WIDTH)
    assert changed(
        fingerprint(tiny_model, *CLASSIFY, "--labels", str(one)),
        fingerprint(tiny_model, *CLASSIFY, "--labels", str(other)),
    ) == {"labels_sha256"}
    records = [write_examples(tmp_path / "data.tfrecord")]
    assert changed(
        fingerprint(tiny_model, containers=records),
        fingerprint(tiny_model, "--keep", "box", containers=records),
    ) == {"keep"}
    assert changed(fingerprint(tiny_model), fingerprint(builtin.NAME, "--image_size", "16")) == {
        "model",
        "model_sha256",
        "vector",
    }


# The rest


def test_limits_pixels_and_batches_are_handed_on(tiny_model: pathlib.Path) -> None:
    limits = ("--max_pixels", "9", "--max_file_bytes", "8")
    flags = ("--batch_size", "5", "--pixels", "uint8", "--decode", "fast", *limits)
    resolved = resolve(tiny_model, *flags)
    assert resolved.batch_size == 5
    assert dataclasses.astuple(resolved.image) == (16, 16, "uint8", "fast", "pixels", 9, 8)
    assert resolved.source.name == str(tiny_model)
    assert resolved.part_format.program.startswith("beam-image-features ")


def test_labels_of_parents_become_a_column(tiny_model: pathlib.Path) -> None:
    assert not resolve(tiny_model).part_format.has_label
    schema = resolve(tiny_model, "--label_from_parent").part_format.schema()
    assert "label" in schema.names
