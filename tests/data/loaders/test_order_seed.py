"""The seed of the order of batches."""

import pytest
import torch
from helpers.damages import WAYS, write_damageable_set

from fuxictr_me import UsageError
from fuxictr_me.data import H5DataLoader, feature_maps


def test_the_order_follows_torchs_seed_by_default(tmp_path):
    write_damageable_set(tmp_path / "one")
    path, feature_map = tmp_path / "one" / "train.h5", feature_maps.load(tmp_path / "one")

    def order(way, torch_seed, **seed):
        torch.manual_seed(torch_seed)
        loader = H5DataLoader(feature_map, path, batch_size=500, shuffle=True, **seed, **way)
        torch.rand(3)  # what is drawn meanwhile does not count
        return torch.cat([batch["large"] for batch in loader]).tolist()

    for way in WAYS:
        assert order(way, 1) == order(way, 1) != order(way, 2)
        assert order(way, 1, seed=5) == order(way, 2, seed=5) != order(way, 1)
    for wrong in (-1, 1.5, "1", True):
        with pytest.raises(UsageError, match="seed must be an integer of 0 or more"):
            H5DataLoader(feature_map, path, seed=wrong)
