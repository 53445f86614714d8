"""What a table of some shape is at random initialisation, also where it is too tall to draw."""

import functools
from dataclasses import dataclass

import numpy as np
import torch

from fuxictr_me.collapse.spectrum import abundance, information_abundance

DRAWN_ROWS = 100_000  # taller tables are not drawn
CENTRED = ("normal_", "xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_")


@dataclass(frozen=True)
class RandomReference:
    """A table at random initialisation.

    Attributes:
        ia (float): information abundance.
        rms (float): root mean square of its entries.
    """

    ia: float
    rms: float


@functools.lru_cache(maxsize=4_096)
def random_reference(num_ids, dims, initializer, seed=0):
    """IA and size of tables of some shape, side by side, as they are at random initialisation.

    Up to 100,000 rows the tables are drawn. The factor R of a taller one, whose entries are independent,
    of mean 0 and one variance, is drawn instead: for normal entries R has exactly the distribution that
    Bartlett (1933) gives, χ_{D-k} on the diagonal and N(0, 1) above it; for others the difference vanishes
    as D/K grows. So a table of millions of rows costs no more than one of K. An initialiser of another
    kind is drawn whole.

    Args:
        num_ids (int): D.
        dims (tuple of int): K of each set.
        initializer (callable): fills a tensor in place, as FuxiCTR's ``embedding_initializer`` does.
        seed (int): of the draw, which leaves torch's random state as it was.

    Returns:
        RandomReference
    """
    if num_ids <= DRAWN_ROWS or not is_centred(initializer):
        ia = random_abundance(num_ids, dims, initializer, seed)
    else:
        ia = abundance(torch.linalg.svdvals(bartlett_factor(num_ids, sum(dims), seed)))
    return RandomReference(ia, _initial_rms(num_ids, dims[0], initializer, seed))


@torch.no_grad()
def random_abundance(num_ids, dims, initializer, seed=0):
    """IA of tables of the same shape as they are at random initialisation.

    Args:
        num_ids (int): D.
        dims (list of int): K of each set; they are drawn one by one and laid side by side.
        initializer (callable): fills a tensor in place, as FuxiCTR's ``embedding_initializer`` does.
        seed (int): of the draw, which leaves torch's random state as it was.

    Returns:
        float: IA([E¹ … Eᴹ]) at random initialisation.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tables = [torch.empty(num_ids, dim) for dim in dims]
        for table in tables:
            initializer(table)
    return information_abundance(tables)


def bartlett_factor(num_ids, dim, seed=0):
    """R (K, K), float64, of a table (D, K) of N(0, 1), D ≥ K, in distribution (Bartlett 1933)."""
    random = np.random.default_rng(seed)
    R = np.triu(random.standard_normal((dim, dim)), 1) + np.diag(np.sqrt(random.chisquare(num_ids - np.arange(dim))))
    return torch.from_numpy(R)


def is_centred(initializer):
    """Whether it is one of ``torch.nn.init`` that draws independent entries of mean 0."""
    keywords = getattr(initializer, "keywords", {})
    name = getattr(getattr(initializer, "func", initializer), "__name__", "")
    if name == "uniform_":
        return keywords.get("a", 0.0) == -keywords.get("b", 1.0)
    return name in CENTRED and keywords.get("mean", 0.0) == 0


def _initial_rms(num_ids, dim, initializer, seed):
    rows = min(num_ids, max(1, DRAWN_ROWS // max(1, dim)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sample = torch.empty(rows, dim)
        initializer(sample)
    rms = float(sample.double().square().mean().sqrt()) if rows else 0.0
    name = getattr(getattr(initializer, "func", initializer), "__name__", "")
    return rms * ((rows + dim) / (num_ids + dim)) ** 0.5 if name.startswith("xavier") else rms
