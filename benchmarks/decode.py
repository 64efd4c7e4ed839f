"""`python -m benchmarks.decode`: what decoding costs, exact and fast, and the cosines.

Times are CPU milliseconds an image on one thread, the median of rounds in which every variant takes
its turn, so that a busy machine slows all alike. Rates are of decoding alone, with one thread and
with two, the best of several turns. Cosines are between the vectors of exact and fast pixels, by
the built-in model, for the same photos enlarged (or reduced) to several sizes.
"""

from __future__ import annotations

import concurrent.futures
import io
import time
from collections.abc import Callable

import numpy as np
import PIL.Image

from benchmarks.images import PHOTOS, encoded_image
from examples.photos import sample_photos
from transforms.images import jpeg
from transforms.images.decode import decode_image, resize
from transforms.images.headers import read_header
from transforms.images.resize import to_float
from transforms.images.spec import ImageSpec
from transforms.models import builtin

HEIGHT, WIDTH = 224, 224
EXACT, FAST = ImageSpec(HEIGHT, WIDTH), ImageSpec(HEIGHT, WIDTH, decode="fast")
ROUNDS = 11
TURNS, TURN_SECONDS = 8, 0.3


def photos_of(megapixels: float | None, names: tuple[str, ...] | None, quality: int) -> list[bytes]:
    """Sample photos as JPEGs of a size, or of their own."""
    encoded = []
    for path in sample_photos():
        if names and path.name not in names:
            continue
        with PIL.Image.open(path) as file:
            photo = file.convert("RGB")
        if megapixels:
            ratio = (megapixels * 1e6 / (photo.width * photo.height)) ** 0.5
            size = round(photo.width * ratio), round(photo.height * ratio)
            photo = photo.resize(size, PIL.Image.Resampling.LANCZOS)
        data = io.BytesIO()
        photo.save(data, "JPEG", quality=quality)
        encoded.append(data.getvalue())
    return encoded


def tensorflow_decode(data: bytes) -> np.ndarray:
    import tensorflow as tf

    return tf.raw_ops.DecodeImage(
        contents=data, channels=3, dtype=tf.uint8, expand_animations=False
    ).numpy()


def tensorflow_resize(rgb: np.ndarray) -> np.ndarray:
    import tensorflow as tf

    return tf.raw_ops.ResizeBilinear(
        images=to_float(rgb)[np.newaxis], size=(HEIGHT, WIDTH), half_pixel_centers=True
    ).numpy()[0]


def steps(data: bytes) -> dict[str, Callable[[], object]]:
    """What is timed for one image."""
    header = read_header(data)
    rgb = tensorflow_decode(data)
    small = jpeg.fast_pixels(data, header, HEIGHT, WIDTH)
    return {
        "header": lambda: read_header(data),
        "tf.io decode": lambda: tensorflow_decode(data),
        "exact decode": lambda: jpeg.exact_pixels(data, header),
        "fast decode": lambda: jpeg.fast_pixels(data, header, HEIGHT, WIDTH),
        "tf.image resize": lambda: tensorflow_resize(rgb),
        "exact resize": lambda: resize(rgb, HEIGHT, WIDTH),
        "fast resize": lambda: resize(small, HEIGHT, WIDTH),
        "tf whole": lambda: tensorflow_resize(tensorflow_decode(data)),
        "exact whole": lambda: decode_image(data, EXACT),
        "fast whole": lambda: decode_image(data, FAST),
    }


def cpu_milliseconds(images: list[bytes]) -> dict[str, float]:
    """The mean over the images of each step's median."""
    means: dict[str, list[float]] = {}
    for data in images:
        variants = steps(data)
        times: dict[str, list[float]] = {name: [] for name in variants}
        for _ in range(ROUNDS):
            for name, work in variants.items():
                begun = time.thread_time()
                work()
                times[name].append(time.thread_time() - begun)
        for name, those in times.items():
            means.setdefault(name, []).append(float(np.median(those)) * 1000)
    return {name: float(np.mean(those)) for name, those in means.items()}


def images_a_second(images: list[bytes], work: Callable[[bytes], object], threads: int) -> float:
    def one_thread(ends: float) -> int:
        done = 0
        while time.perf_counter() < ends:
            work(images[done % len(images)])
            done += 1
        return done

    begun = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(one_thread, [begun + TURN_SECONDS] * threads))
    return done / (time.perf_counter() - begun)


def print_rates(images: list[bytes]) -> None:
    whole = {
        "tf": lambda data: tensorflow_resize(tensorflow_decode(data)),
        "exact": lambda data: decode_image(data, EXACT),
        "fast": lambda data: decode_image(data, FAST),
    }
    best = {(name, threads): 0.0 for name in whole for threads in (1, 2)}
    for _ in range(TURNS):
        for name, threads in best:
            rate = images_a_second(images, whole[name], threads)
            best[name, threads] = max(best[name, threads], rate)
    for name in whole:
        print(f"  {name:16} {best[name, 1]:8.1f} /s   two threads {best[name, 2]:8.1f} /s")


def vectors(images: list[bytes], spec: ImageSpec) -> np.ndarray:
    """float64 [n, 1280], each of length 1."""
    import tensorflow as tf
    import tensorflow_hub as hub

    model = hub.load(builtin.exported("feature_vector"))
    pixels = [decode_image(data, spec).pixels for data in images]
    floats = [to_float(p) if p.dtype == np.uint8 else p for p in pixels]
    found = model(tf.constant(np.stack(floats))).numpy().astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def main() -> None:
    """Prints the tables."""
    mosaics = [encoded_image("photo", number) for number in range(3)]
    sets = {
        "500x375, real detail": [encoded_image("jpeg", number) for number in range(8)],
        "12 MP, enlarged, quality 75": photos_of(12, PHOTOS, 75),
        "12 MP, enlarged, quality 90": photos_of(12, PHOTOS, 90),
        "12 MP, mosaics of small photos": mosaics,
    }
    for title, images in sets.items():
        size = sum(map(len, images)) / len(images) / 1000
        print(f"\n{title}: {len(images)} JPEGs of {size:,.0f} kB; CPU ms an image")
        cost = cpu_milliseconds(images)
        for name, milliseconds in cost.items():
            print(f"  {name:16} {milliseconds:8.3f}")
        before = cost["tf.io decode"] + min(cost["exact resize"], cost["tf.image resize"])
        print(f"  fast is {cost['exact whole'] / cost['fast whole']:.2f} times as fast as exact,")
        print(f"  and {before / cost['fast whole']:.2f} times as fast as with tf.io's decoder")
        print_rates(images)

    print("\ncosine of exact and fast vectors")
    for title, names in (("colour photos", PHOTOS), ("all sample images", None)):
        for megapixels in (None, 0.1875, 1, 3, 12):
            images = photos_of(megapixels, names, 90)
            cosines = (vectors(images, EXACT) * vectors(images, FAST)).sum(axis=1)
            print(
                f"  {len(images)} {title}, {megapixels or 'own'} MP: mean {cosines.mean():.4f}, "
                f"median {np.median(cosines):.4f}, min {cosines.min():.4f}"
            )
    cosines = (vectors(mosaics, EXACT) * vectors(mosaics, FAST)).sum(axis=1)
    print(f"  {len(mosaics)} mosaics, 12 MP: mean {cosines.mean():.4f}, min {cosines.min():.4f}")


if __name__ == "__main__":
    main()
