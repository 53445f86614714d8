"""Information abundance of tables at random initialisation, also of tables too tall to draw."""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fuxictr_me.collapse.spectrum import abundance, information_abundance

DRAWN_ROWS = 100_000  # taller tables are not drawn
CENTRED = ("normal_", "xavier_normal_", "xavier_uniform_", "kaiming_normal_", "kaiming_uniform_")


@dataclass(frozen=True)
class RandomReference:
    """A table at random initialisation."""

    ia: float  # information abundance
    rms: float  # root mean square of its entries


@functools.lru_cache(maxsize=4_096)
def random_reference(
    num_ids: int, dims: tuple[int, ...], initializer: Callable[[Tensor], object], seed: int = 0
) -> RandomReference:
    """Return IA and size of tables side by side at random initialisation.

    Tables of up to 100,000 rows are drawn. Of a taller table, whose entries are independent with mean 0 and one
    variance, the factor R is drawn instead: for normal entries R has exactly the distribution that
    Bartlett (1933) gives, χ_{D-k} on the diagonal and N(0, 1) above it; for other entries the difference vanishes
    as D/K grows. So a table of millions of rows costs no more than one of K rows. With an initialiser of another
    kind the table is drawn in full.

    Args:
        num_ids: D.
        dims: K of each set.
        initializer: fills a tensor in place, as FuxiCTR's ``embedding_initializer`` does.
        seed: of the random numbers. Torch's random state stays unchanged.
    """
    if num_ids <= DRAWN_ROWS or not is_centred(initializer):
        ia = random_abundance(num_ids, dims, initializer, seed)
    else:
        ia = abundance(torch.linalg.svdvals(bartlett_factor(num_ids, sum(dims), seed)))
    return RandomReference(ia, _initial_rms(num_ids, dims[0], initializer, seed))


@torch.no_grad()
def random_abundance(
    num_ids: int, dims: Sequence[int], initializer: Callable[[Tensor], object], seed: int = 0
) -> float:
    """Return IA([E¹ … Eᴹ]) of tables at random initialisation, drawn one by one and laid side by side.

    Args:
        num_ids: D.
        dims: K of each set.
        initializer: fills a tensor in place, as FuxiCTR's ``embedding_initializer`` does.
        seed: of the random numbers. Torch's random state stays unchanged.
    """
    return information_abundance(_initialise([(num_ids, dim) for dim in dims], initializer, seed))


def bartlett_factor(num_ids: int, dim: int, seed: int = 0) -> Tensor:
    """Draw R (K, K), float64, of a table (D, K) of N(0, 1) entries, D ≥ K (Bartlett 1933)."""
    random = np.random.default_rng(seed)
    R = np.triu(random.standard_normal((dim, dim)), 1) + np.diag(np.sqrt(random.chisquare(num_ids - np.arange(dim))))
    return torch.from_numpy(R)


def is_centred(initializer: Callable) -> bool:
    """Return whether an initialiser is one of ``torch.nn.init`` that draws independent entries of mean 0."""
    keywords = getattr(initializer, "keywords", {})
    name = _function_name(initializer)
    if name == "uniform_":
        return keywords.get("a", 0.0) == -keywords.get("b", 1.0)
    return name in CENTRED and keywords.get("mean", 0.0) == 0


def _function_name(initializer: Callable) -> str:
    return getattr(getattr(initializer, "func", initializer), "__name__", "")


def _initialise(shapes: list[tuple[int, int]], initializer: Callable[[Tensor], object], seed: int) -> list[Tensor]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        tables = [torch.empty(shape) for shape in shapes]
        for table in tables:
            initializer(table)
    return tables


def _initial_rms(num_ids: int, dim: int, initializer: Callable[[Tensor], object], seed: int) -> float:
    rows = min(num_ids, max(1, DRAWN_ROWS // max(1, dim)))
    (sample,) = _initialise([(rows, dim)], initializer, seed)
    rms = float(sample.double().square().mean().sqrt()) if rows else 0.0
    if _function_name(initializer).startswith("xavier"):  # its scale depends on the number of rows
        rms *= ((rows + dim) / (num_ids + dim)) ** 0.5
    return rms
