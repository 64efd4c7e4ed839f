"""The folder that the pages and the notebook find themselves in."""

from __future__ import annotations

import pathlib

import PIL.Image
import pytest

from examples.photos import sample_photos

# The two motorcycles are a stereo pair: each is the other's nearest neighbour.
PHOTOS = {
    "astronaut",
    "chelsea",
    "china",
    "coffee",
    "flower",
    "motorcycle_left",
    "motorcycle_right",
    "rocket",
}
LARGEST = (400, 400)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """`photos/`: eight small JPEGs and a file that is none."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "photos").mkdir()
    for path in sample_photos():
        if path.stem in PHOTOS:
            with PIL.Image.open(path) as image:
                image.thumbnail(LARGEST)
                image.convert("RGB").save(folder / "photos" / f"{path.stem}.jpg")
    (folder / "photos" / "broken.jpg").write_text("This is not a photo.\n")
    return folder
