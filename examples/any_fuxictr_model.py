"""Embedding sets for a FuxiCTR model that was written without them.

``DeepFM`` below is written as FuxiCTR writes its models. ``MultiEmbeddingOf(DeepFM)`` is a subclass with M embedding
sets, and ``describe()`` says where the sets are averaged.

``python any_fuxictr_model.py`` trains both on 2,000 flights that come with the package. In a config, ``num_sets`` is
all that has to be added, as in ``config/model_config.yaml`` beside this file:

    cd examples
    fuxictr-me run_expid --config config --expid DeepFM_ME_4x
"""

from fuxictr.pytorch.layers import FactorizationMachine, FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel

from fuxictr_me import H5DataLoader, InformationAbundance, MultiEmbeddingOf, attach
from fuxictr_me.commands.main import main
from fuxictr_me.data import feature_maps


class DeepFM(BaseModel):
    """A factorisation machine and an MLP that share embeddings (arXiv:1703.04247)."""

    def __init__(
        self,
        feature_map,
        model_id="DeepFM",
        gpu=-1,
        learning_rate=1e-3,
        embedding_dim=10,
        hidden_units=(64, 64),
        **kwargs,
    ):
        super().__init__(feature_map, model_id=model_id, gpu=gpu, **kwargs)
        self.embedding_layer = FeatureEmbedding(feature_map, embedding_dim)
        self.fm = FactorizationMachine(feature_map)
        self.mlp = MLP_Block(feature_map.sum_emb_out_dim(), hidden_units=list(hidden_units), output_dim=1)
        self.compile(kwargs["optimizer"], kwargs["loss"], learning_rate)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs):
        X = self.get_inputs(inputs)
        e = self.embedding_layer(X)
        y = self.fm(X, e) + self.mlp(e.flatten(start_dim=1))
        return {"y_pred": self.output_activation(y)}


SETTINGS = {
    "optimizer": "adam",
    "loss": "binary_crossentropy",
    "metrics": ["AUC", "logloss"],
    "model_root": "./checkpoints/",
    "learning_rate": 1e-2,
    "verbose": 0,
}


def train(num_sets: int, embedding_dim: int, epochs: int = 1) -> tuple[BaseModel, dict[str, float]]:
    """Train DeepFM with ``num_sets`` sets, and return the model and the metrics of the test split."""
    main(["data", "build", "tiny_flights"])  # as `fuxictr-me data build tiny_flights`; it writes data/
    feature_map = feature_maps.load("data/tiny_flights", params={"embedding_dim": embedding_dim})
    train, valid, test = (
        H5DataLoader(feature_map, f"data/tiny_flights/{split}.h5", split, batch_size=256, shuffle=split == "train")
        for split in ("train", "valid", "test")
    )
    model_id = f"DeepFM_{num_sets}_sets"
    model = MultiEmbeddingOf(DeepFM)(
        feature_map, model_id=model_id, num_sets=num_sets, embedding_dim=embedding_dim, **SETTINGS
    )
    attach(model, [InformationAbundance()])  # writes checkpoints/tiny_flights/<model_id>.ia.csv
    model.fit(train, validation_data=valid, epochs=epochs)
    return model, model.evaluate(test)


if __name__ == "__main__":
    for num_sets, embedding_dim in ((1, 16), (4, 4)):
        model, metrics = train(num_sets, embedding_dim)
        print(model.describe(), metrics, sep="\n")
