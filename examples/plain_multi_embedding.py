"""Multi-embedding in plain PyTorch.

The paper (arXiv:2310.04400) trains M embedding sets, each with its own interaction and projection, and averages them:

    ŷ = sigmoid(head(mean over m of projection_m(interaction_m(embedding_m(x)))))

``python plain_multi_embedding.py`` trains one set of 16 dimensions and four sets of 4 on random clicks, and prints the
information abundance of each table: the sum of its singular values divided by the largest. Random clicks show how it
works, not which of the two is better.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as log_loss

NUM_FIELDS, IDS_PER_FIELD = 4, 30


class MultiEmbedding(nn.Module):
    """Click model with M embedding sets and the cross layer of DCNv2 as interaction."""

    def __init__(self, num_sets: int, dim: int, hidden: int = 32) -> None:
        super().__init__()
        width = NUM_FIELDS * dim
        self.embeddings = nn.ModuleList(nn.Embedding(NUM_FIELDS * IDS_PER_FIELD, dim) for _ in range(num_sets))
        self.crosses = nn.ModuleList(nn.Linear(width, width) for _ in range(num_sets))
        self.projections = nn.ModuleList(nn.Sequential(nn.Linear(width, hidden), nn.ReLU()) for _ in range(num_sets))
        self.head = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (B,) of ids (B, F)."""
        outputs = []
        for embedding, cross, projection in zip(self.embeddings, self.crosses, self.projections, strict=True):
            e = embedding(x).flatten(1)  # (B, F·K)
            interaction = e * cross(e) + e  # (B, F·K)
            outputs.append(projection(interaction))  # (B, hidden)
        return self.head(torch.stack(outputs).mean(dim=0)).squeeze(-1)


def make_clicks(rows: int = 22_000) -> tuple[Tensor, Tensor]:
    """Return ids (rows, F), and labels (rows,) that depend on pairs of ids."""
    ids = torch.randint(IDS_PER_FIELD, (rows, NUM_FIELDS))
    ids = ids + IDS_PER_FIELD * torch.arange(NUM_FIELDS)  # each field has ids of its own
    factors = torch.randn(NUM_FIELDS * IDS_PER_FIELD, 8)[ids]  # (rows, F, 8)
    score = (factors[:, 0] * factors[:, 1]).sum(-1) + (factors[:, 2] * factors[:, 3]).sum(-1)
    return ids, (torch.rand(rows) < torch.sigmoid(score)).float()


def information_abundance(table: Tensor) -> float:
    """Return Σσ / max σ over the singular values of a table (ids, K): a number from 1, collapsed, to K."""
    singular_values = torch.linalg.svdvals(table)
    return (singular_values.sum() / singular_values.max()).item()


def train(num_sets: int, dim: int, epochs: int = 3) -> tuple[MultiEmbedding, float]:
    """Train on 20,000 rows. Return the model, and the log loss of the other 2,000 rows."""
    torch.manual_seed(0)
    ids, labels = make_clicks()
    model = MultiEmbedding(num_sets, dim)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(20_000).split(500):
            optimizer.zero_grad()
            log_loss(model(ids[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        return model, log_loss(model(ids[20_000:]), labels[20_000:]).item()


if __name__ == "__main__":
    for num_sets, dim in ((1, 16), (4, 4)):
        model, loss = train(num_sets, dim)
        abundance = [f"{information_abundance(table.weight.detach()):.2f}" for table in model.embeddings]
        print(f"{num_sets} x {dim} dimensions: log loss {loss:.3f}, information abundance {', '.join(abundance)}")
