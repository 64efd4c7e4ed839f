"""From an Arrow table to a data frame of pandas, in which vectors are rows of one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import pandas as pd


def vectors_in_frame(others: pa.Table, column: str, vectors: np.ndarray, at: int) -> pd.DataFrame:
    """A frame with a column of vectors; no vector is copied.

    Args:
      others: the other columns, n rows.
      column: name of the column of vectors.
      vectors: float32 [n, N]; the column's cells are its rows, float32 [N].
      at: its position among the columns.
    """
    import pandas as pd

    cells = np.empty(len(vectors), object)
    for row, vector in enumerate(vectors):
        cells[row] = vector
    frame = others.to_pandas() if others.num_columns else pd.DataFrame(index=range(len(cells)))
    frame.insert(at, column, cells)
    return frame
