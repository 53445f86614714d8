"""Multi-embedding models on FuxiCTR's own layers (benchmarks/plain.py), and their fast counterparts."""

from fuxictr_me import DNN_ME, DCNv2_ME, FinalMLP_ME
from helpers.benchmark_files import load_benchmark
from helpers.feature_maps import MODEL

plain_models = load_benchmark("plain")
LAYERS = {"net_dropout": 0.2, "batch_norm": True}
OF_FINALMLP = {"mlp1_hidden_units": [6, 4], "mlp1_dropout": 0.2, "mlp1_batch_norm": True, "num_heads": 2}
OF_FINALMLP |= {"mlp2_hidden_units": [8], "mlp2_hidden_activations": "Tanh"}
PAIRS = {
    "DNN": (DNN_ME, plain_models.PlainDNNME, {"hidden_units": [6, 5, 3], **LAYERS}),
    "DCNv2": (
        DCNv2_ME,
        plain_models.PlainDCNv2ME,
        {"stacked_dnn_hidden_units": [6, 5], "num_cross_layers": 3, **LAYERS},
    ),
    "FinalMLP": (FinalMLP_ME, plain_models.PlainFinalMLPME, OF_FINALMLP),
}
SETTINGS = {"embedding_dim": 4, "embedding_initializer": "partial(nn.init.normal_, std=0.5)", **MODEL}
SETTINGS |= {"metrics": ["AUC", "logloss"], "model_root": "unused"}
