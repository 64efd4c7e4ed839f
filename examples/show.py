"""`python -m examples.show FEATURES LOGITS`: what lies in two output directories, with pandas."""

from __future__ import annotations

import pathlib
import sys

import pandas as pd


def show_features(directory: str) -> None:
    """Prints the table of feature vectors."""
    table = pd.read_parquet(directory)
    print(f"\npandas.read_parquet({directory!r}): {len(table)} rows")
    table["name"] = table["uri"].map(lambda uri: pathlib.Path(uri).name)
    table["first of the vector"] = table["feature_vector"].map(lambda v: v[:4].round(3).tolist())
    print(table[["name", "width", "height", "first of the vector"]].head(5).to_string(index=False))


def show_classes(directory: str) -> None:
    """Prints the best class of each image."""
    table = pd.read_parquet(directory)
    print(f"\npandas.read_parquet({directory!r}): {len(table)} rows, best class of each")
    for row in table.itertuples():
        best = row.top_k[0]
        print(f"  {pathlib.Path(row.uri).name:28} {best['label']:24} {best['score']:.2f}")


def show_errors(directory: str) -> None:
    """Prints the error rows."""
    if not pathlib.Path(directory, "_errors").exists():
        print("\nno errors")
        return
    table = pd.read_parquet(pathlib.Path(directory, "_errors"))
    print(f"\npandas.read_parquet({directory + '/_errors'!r}): {len(table)} rows")
    for row in table.itertuples():
        print(f"  {pathlib.Path(row.uri).name:28} {row.stage}: {row.error_type}: {row.message}")


def show_files(directory: str) -> None:
    """Prints the names and sizes of the files."""
    print(f"\n{directory}/")
    for path in sorted(pathlib.Path(directory).rglob("*")):
        if path.is_file():
            print(f"  {path.relative_to(directory)!s:44} {path.stat().st_size:>9,} bytes")


if __name__ == "__main__":
    features, logits = sys.argv[1:]
    show_files(features)
    show_features(features)
    show_classes(logits)
    show_errors(features)
