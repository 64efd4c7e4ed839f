"""`python -m benchmarks.images KIND COUNT ROOT`: image sets for the benchmarks, from real photos.

Every image is a crop (or a mosaic of crops) of scikit-image's and scikit-learn's photos, flipped
and brightened at random. Image i of a kind is the same in every set and on every machine with the
same Pillow; all differ from each other. They lie 1,000 a subdirectory.
"""

from __future__ import annotations

import dataclasses
import functools
import io
import itertools
import multiprocessing
import os
import pathlib
import random
import shutil
import sys

import PIL.Image
import PIL.ImageEnhance

from examples.photos import sample_photos

# Colour photos that a crop of 500×375 fits into.
PHOTOS = (
    "astronaut.png",
    "china.jpg",
    "coffee.png",
    "flower.jpg",
    "hubble_deep_field.jpg",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "retina.jpg",
    "rocket.jpg",
)
TILE = (500, 375)
FILES_A_DIRECTORY = 1000


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the images of a set are.

    Attributes:
      size: width and height in pixels.
      suffix: of the files, which is also their format.
      target_bytes: for JPEGs; the quality is chosen once for each photo to come near it.
      record_file: whether they lie in one TFRecord file.
    """

    size: tuple[int, int]
    suffix: str
    target_bytes: int = 0
    record_file: bool = False


KINDS = {
    "jpeg": Kind(TILE, ".jpg", 60_000),
    "photo": Kind((4000, 3000), ".jpg", 64 * 60_000),
    "png": Kind((96, 96), ".png"),
    "tfrecord": Kind(TILE, ".jpg", 60_000, record_file=True),
    "thumbnail": Kind((128, 128), ".jpg", 6_000),
}


def image_set(kind: str, count: int, root: str | os.PathLike) -> pathlib.Path:
    """The directory with `count` images of a kind below `root`, made if it is not there."""
    directory = directory_of(kind, count, root)
    if directory.exists():
        return directory
    started = directory.with_name(f".tmp-{directory.name}")
    shutil.rmtree(started, ignore_errors=True)
    started.mkdir(parents=True)
    if KINDS[kind].record_file:
        _write_records(kind, count, started / "images.tfrecord")
    else:
        for first in range(0, count, FILES_A_DIRECTORY):
            (started / f"{first // FILES_A_DIRECTORY:03d}").mkdir()
        with multiprocessing.get_context("spawn").Pool() as pool:
            write = functools.partial(_write_image, kind, started)
            for _ in pool.imap_unordered(write, range(count), chunksize=16):
                pass
    started.rename(directory)
    return directory


def directory_of(kind: str, count: int, root: str | os.PathLike) -> pathlib.Path:
    """Where `image_set` puts a set."""
    return pathlib.Path(root) / f"{kind}-{count:06d}"


def encoded_image(kind: str, number: int) -> bytes:
    """Image `number` of a kind, encoded."""
    wanted = KINDS[kind]
    choose = random.Random(f"{wanted.size} {number}")
    name = choose.choice(PHOTOS)
    if wanted.size <= TILE:
        image = _crop(name, wanted.size, choose)
    else:
        image = PIL.Image.new("RGB", wanted.size)
        columns, rows = (range(0, n, tile) for n, tile in zip(wanted.size, TILE, strict=True))
        for corner in itertools.product(columns, rows):
            image.paste(_crop(choose.choice(PHOTOS), TILE, choose), corner)
    if wanted.suffix == ".png":
        return _encode(image, "PNG")
    quality = _quality(name, wanted.size, wanted.target_bytes) if wanted.size <= TILE else 92
    return _encode(image, "JPEG", quality=quality)


@functools.cache
def _photo(name: str) -> PIL.Image.Image:
    path = next(path for path in sample_photos() if path.name == name)
    return PIL.Image.open(path).convert("RGB")


def _crop(name: str, size: tuple[int, int], choose: random.Random) -> PIL.Image.Image:
    photo = _photo(name)
    left = choose.randint(0, photo.width - size[0])
    top = choose.randint(0, photo.height - size[1])
    image = photo.crop((left, top, left + size[0], top + size[1]))
    if choose.random() < 0.5:
        image = image.transpose(PIL.Image.Transpose.FLIP_LEFT_RIGHT)
    return PIL.ImageEnhance.Brightness(image).enhance(choose.uniform(0.8, 1.2))


@functools.cache
def _quality(name: str, size: tuple[int, int], target_bytes: int) -> int:
    """The JPEG quality at which the photo's middle has nearest to `target_bytes`."""
    photo = _photo(name)
    left, top = (photo.width - size[0]) // 2, (photo.height - size[1]) // 2
    middle = photo.crop((left, top, left + size[0], top + size[1]))
    sizes = {q: len(_encode(middle, "JPEG", quality=q)) for q in range(30, 99, 2)}
    return min(sizes, key=lambda quality: abs(sizes[quality] - target_bytes))


def _encode(image: PIL.Image.Image, form: str, **options: int) -> bytes:
    encoded = io.BytesIO()
    image.save(encoded, form, **options)
    return encoded.getvalue()


def _write_image(kind: str, directory: pathlib.Path, number: int) -> None:
    name = f"{number:06d}{KINDS[kind].suffix}"
    path = directory / f"{number // FILES_A_DIRECTORY:03d}" / name
    path.write_bytes(encoded_image(kind, number))


def _write_records(kind: str, count: int, path: pathlib.Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(path)) as writer:
        for number in range(count):
            example = tf.train.Example()
            example.features.feature["image/encoded"].bytes_list.value.append(
                encoded_image(kind, number)
            )
            writer.write(example.SerializeToString())


def main() -> None:
    """Makes one set and prints where it lies."""
    kind, count, root = sys.argv[1:]
    print(image_set(kind, int(count), root))


if __name__ == "__main__":
    main()
