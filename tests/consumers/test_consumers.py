"""What consumers read: the dataset as the last finished run left it."""

from __future__ import annotations

import consumers
import transforms.snapshot
from tests.helpers.commands import ROOT
from transforms.dataset import snapshot

OUTPUT = ROOT / "tests" / "data" / "output_0_1_0"


def test_features_are_read_by_the_snapshot_under_either_name() -> None:
    assert consumers.load_features is transforms.snapshot.load_features is snapshot.load_features
    table = consumers.load_features(str(OUTPUT), ["id", "feature_vector"])
    assert (table.num_rows, table.schema.field("feature_vector").type.list_size) == (5, 1280)
    assert consumers.open_features(str(OUTPUT)).count_rows() == 5
