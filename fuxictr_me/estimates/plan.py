"""Estimate what a run needs on a GPU, from a simulated step and the GPU's data sheet."""

from dataclasses import dataclass
from typing import Any

from fuxictr.features import FeatureMap

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.loaders.h5_loader import SHARE_OF_FREE_MEMORY
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.gpus import Gpu, find_gpu
from fuxictr_me.estimates.measured_steps import expected_seconds
from fuxictr_me.estimates.memory_limits import check_plannable
from fuxictr_me.estimates.operation_ledger import Operation
from fuxictr_me.estimates.simulate import Memory, simulate
from fuxictr_me.zoo.find_model import is_fuxictr_me_model


@dataclass(frozen=True)
class Plan:
    """What a run needs. Times, FLOPs, bytes and operations are those of one training step.

    Attributes:
        gpu: the GPU that is assumed.
        precision: of matrix products.
        batch_size: rows of a step.
        parameters, embedding_parameters: number of all parameters, and of those of embeddings.
        memory: of training.
        data: split -> bytes of its rows as H5, with their order.
        on_gpu: splits that are in the GPU's memory.
        flops, bytes_moved: FLOPs of matrix products, and bytes read and written.
        compute_seconds: time of the matrix products at the GPU's peak.
        traffic_seconds: time of the bytes at the bandwidth.
        kernel_seconds: time of the operations one after another, each at the slower of its two limits.
        operations: all operations.
        expected_seconds: time according to measured steps, see ``measured_steps.py``; None if the model is not
            fuxictr-me's.
    """

    gpu: Gpu
    precision: str
    batch_size: int
    parameters: int
    embedding_parameters: int
    memory: Memory
    data: dict[str, int]
    on_gpu: tuple[str, ...]
    flops: int
    bytes_moved: int
    compute_seconds: float
    traffic_seconds: float
    kernel_seconds: float
    operations: list[Operation]
    expected_seconds: float | None

    @property
    def needed(self) -> int:
        """Bytes needed in the GPU's memory: the peak of a step, and the data that are there."""
        return self.memory.peak + sum(self.data[split] for split in self.on_gpu)

    @property
    def fits(self) -> bool:
        """Whether the GPU has enough memory."""
        return self.needed <= self.gpu.memory

    @property
    def floor_seconds(self) -> float:
        """Time of a step if matrix products and memory traffic are at their limits and overlap completely.

        A step can only be faster if caches and fused kernels avoid traffic.
        """
        return max(self.compute_seconds, self.traffic_seconds)


def plan(
    model_class: type,
    feature_map: FeatureMap,
    params: dict[str, Any],
    gpu_model: str = "H100",
    rows: dict[str, int] | None = None,
) -> Plan:
    """Estimate what training a model needs. Nothing large is allocated.

    Args:
        model_class: as ``find_model`` returns it.
        feature_map: of the data set.
        params: settings of the run, as ``load_settings`` returns them.
        gpu_model: name of a GPU in ``fuxictr_me.estimates.GPUS``.
        rows: ``train`` and ``valid`` -> number of rows, if known.

    Raises:
        UsageError: an unknown GPU, or settings that the model refuses.
    """
    gpu = find_gpu(gpu_model)
    check_plannable(model_class, params, feature_map, gpu.memory)
    simulation = simulate(model_class, feature_map, params)
    data, on_gpu = place_data(feature_map, params, rows or {}, gpu.memory - simulation.memory.weights)
    precision = params.get("precision", "float32")
    compute = [operation.flops / gpu.peak(precision) for operation in simulation.operations]
    traffic = [operation.bytes / gpu.bandwidth for operation in simulation.operations]
    return Plan(
        gpu=gpu,
        precision=precision,
        batch_size=params.get("batch_size", 32),
        parameters=simulation.parameters,
        embedding_parameters=simulation.embedding_parameters,
        memory=simulation.memory,
        data=data,
        on_gpu=on_gpu,
        flops=sum(operation.flops for operation in simulation.operations),
        bytes_moved=sum(operation.bytes for operation in simulation.operations),
        compute_seconds=sum(compute),
        traffic_seconds=sum(traffic),
        kernel_seconds=kernel_seconds(simulation.operations, gpu, precision),
        operations=simulation.operations,
        expected_seconds=_expect_seconds(model_class, params, gpu, simulation.operations),
    )


def kernel_seconds(operations: list[Operation], gpu: Gpu, precision: str) -> float:
    """Return the time of operations one after another, each at the slower of its two limits on a GPU."""
    return sum(max(o.flops / gpu.peak(precision), o.bytes / gpu.bandwidth) for o in operations)


def _expect_seconds(model_class: type, params: dict[str, Any], gpu: Gpu, operations: list[Operation]) -> float | None:
    if not is_fuxictr_me_model(model_class):
        return None
    precision = params.get("precision", "float32")
    measured_as = precision if precision in gpu.peaks else "float32"
    floor, is_recorded = kernel_seconds(operations, gpu, precision), params.get("cuda_graph", "auto") is not False
    return expected_seconds(floor, measured_as, bool(params.get("compile")), is_recorded, model_class.__name__)


def place_data(
    feature_map: FeatureMap, params: dict[str, Any], rows: dict[str, int], free: float
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Predict where ``H5DataLoader`` will keep the splits of a training run.

    Args:
        feature_map: of the data set.
        params: settings of the run.
        rows: split -> number of rows, if known.
        free: bytes of the GPU's memory beside the model.

    Returns:
        Split -> bytes, and the splits that go to the GPU. Both are empty if the data are not fed from H5.
    """
    if params.get("data_format") != "h5" or params.get("data_loader") or params.get("streaming"):
        return {}, ()
    placement = params.get("data_placement", "auto")
    sizes: dict[str, int] = {}
    on_gpu = []
    for split in ("train", "valid"):
        if split not in rows:
            continue
        order = 8 if split == "train" and params.get("shuffle", True) else 0
        sizes[split] = rows[split] * (Layout.of(feature_map).row_bytes + order)
        if placement == "device" or (placement == "auto" and sizes[split] < SHARE_OF_FREE_MEMORY * free):
            on_gpu.append(split)
            free -= sizes[split]
    return sizes, tuple(on_gpu)


def what_would_fit(
    model_class: type,
    feature_map: FeatureMap,
    params: dict[str, Any],
    gpu_model: str = "H100",
    rows: dict[str, int] | None = None,
) -> list[tuple[str, Any, Plan]]:
    """Return changes of a single setting with which a run fits a GPU: setting, value, and the plan with it.

    Sizes are halved until the run fits. For the arguments see ``plan``.
    """
    dim, sets = params.get("embedding_dim", 10), params.get("num_sets")
    sets = sets or (4 if is_fuxictr_me_model(model_class) else 1)
    candidates: dict[str, list] = {"data_placement": ["memory"]}
    if isinstance(dim, int):
        candidates |= {"num_sets": _halved(sets)} if sets > 1 else {"embedding_dim": _halved(dim)}
    candidates["batch_size"] = _halved(params.get("batch_size", 32), least=2)  # batch norm needs two rows
    changes = []
    for key, values in candidates.items():
        for value in values:
            try:
                changed = plan(model_class, feature_map, {**params, key: value}, gpu_model, rows)
            except UsageError:  # incompatible with the other settings
                break
            if changed.fits:
                changes.append((key, value, changed))
                break
    return changes


def _halved(value: int, least: int = 1) -> list[int]:
    return [value >> shift for shift in range(1, value.bit_length()) if value >> shift >= least]
