"""A model of your own with M embedding sets: gated embeddings before an MLP (GateNet, arXiv:2007.03519).

The interaction module computes all sets at once. ``MultiEmbeddingModel`` has the rest: embedding sets, projections,
their average, the head, checks of settings, fast training steps and callbacks.

``python own_model.py`` trains it on 2,000 flights that come with the package. In a config the model is
``model: own_model:GateNet_ME``, as in ``config/model_config.yaml`` beside this file:

    cd examples
    fuxictr-me run_expid --config config --expid GateNet_ME_4x
"""

import torch
from torch import nn

from fuxictr_me import H5DataLoader, MultiEmbeddingModel
from fuxictr_me.commands.main import main
from fuxictr_me.data import feature_maps
from fuxictr_me.nn import MLP, SetLinear


class Gates(nn.Module):
    """e ⊙ sigmoid(W e + b) in each set, with a W and b of each set."""

    def __init__(self, num_sets: int, field_dims: list[int]) -> None:
        super().__init__()
        width = sum(field_dims)
        self.gate = SetLinear(num_sets, width, width)
        self.output_dims = [width]  # one branch

    def forward(self, e: torch.Tensor) -> list[torch.Tensor]:
        """(B, M, ΣK) -> [(B, M, ΣK)]."""
        return [e * torch.sigmoid(self.gate(e))]


class GateNet_ME(MultiEmbeddingModel):
    """Gated embeddings in each set -> the first hidden layer of each set -> mean -> the other hidden layers."""

    def __init__(self, feature_map, model_id="GateNet_ME", hidden_units=(64, 64), net_dropout=0, **kwargs):
        super().__init__(feature_map, model_id=model_id, **kwargs)
        self.assemble(Gates, [MLP(hidden_units, "ReLU", net_dropout, batch_norm=False)])


def train(epochs: int = 2) -> dict[str, float]:
    """Build the flights, train the model with 4 sets, and return the metrics of the test split."""
    main(["data", "build", "tiny_flights"])  # as `fuxictr-me data build tiny_flights`; it writes data/
    feature_map = feature_maps.load("data/tiny_flights")
    train, valid, test = (
        H5DataLoader(feature_map, f"data/tiny_flights/{split}.h5", split, batch_size=256, shuffle=split == "train")
        for split in ("train", "valid", "test")
    )
    model = GateNet_ME(feature_map, num_sets=4, embedding_dim=4, learning_rate=1e-2, verbose=0)
    model.fit(train, validation_data=valid, epochs=epochs)
    return model.evaluate(test)


if __name__ == "__main__":
    print(train())
