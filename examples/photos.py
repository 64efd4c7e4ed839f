"""`python -m examples.photos DIR`: the sample photos of scikit-image and scikit-learn, as files."""

from __future__ import annotations

import pathlib
import shutil
import sys


def sample_photos() -> list[pathlib.Path]:
    """Where the packages keep their photos: PNG, JPEG and GIF, colour and grey."""
    import skimage
    import sklearn.datasets

    directories = [
        pathlib.Path(skimage.data_dir),
        pathlib.Path(sklearn.datasets.__file__).parent / "images",
    ]
    suffixes = {".png", ".jpg", ".gif"}
    return sorted(
        path for directory in directories for path in directory.iterdir() if path.suffix in suffixes
    )


def main() -> None:
    """Copies the photos, and adds one file that only claims to be one."""
    directory = pathlib.Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for path in sample_photos():
        shutil.copy(path, directory)
    (directory / "broken.jpg").write_text("This is not a photo.\n")
    print(f"{len(sample_photos())} photos and one broken file in {directory}/")


if __name__ == "__main__":
    main()
