"""What consumers read: the dataset as the last finished run left it."""

from __future__ import annotations

import consumers
import transforms.snapshot
from tests.helpers.commands import ROOT
from transforms.dataset import snapshot

OUTPUT = ROOT / "tests" / "data" / "output_0_1_0"


def test_features_of_an_earlier_version_are_read_by_either_door() -> None:
    assert transforms.snapshot.load_features is snapshot.load_features
    table = snapshot.load_features(str(OUTPUT), ["id", "feature_vector"])
    assert (table.num_rows, table.schema.field("feature_vector").type.list_size) == (5, 1280)
    features = consumers.load_features(str(OUTPUT), ["id", "feature_vector"])
    assert (len(features), features.width) == (5, 1280)
    assert features.to_arrow().equals(table)
    assert consumers.open_features is snapshot.open_features
    assert consumers.open_features(str(OUTPUT)).count_rows() == 5
