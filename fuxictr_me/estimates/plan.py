"""What a run will take on a GPU, by a simulated step and the GPU's data sheet."""

from dataclasses import dataclass

from fuxictr_me.data.column_layout import Layout
from fuxictr_me.data.loaders.h5_loader import SHARE_OF_FREE_MEMORY
from fuxictr_me.errors import UsageError
from fuxictr_me.estimates.gpus import Gpu, find_gpu
from fuxictr_me.estimates.limits import check_plan
from fuxictr_me.estimates.measured_steps import expected_seconds
from fuxictr_me.estimates.simulate import Memory, simulate
from fuxictr_me.zoo.find_model import is_fuxictr_me_model


@dataclass(frozen=True)
class Plan:
    """What a run will take.

    Attributes:
        gpu (Gpu)
        precision (str): of matrix products.
        batch_size (int)
        parameters, embedding_parameters (int): in all, and of embeddings.
        memory (Memory): of training.
        data (dict): split -> bytes of its rows, with their order, as H5.
        on_gpu (tuple of str): the splits that lie in the GPU's memory.
        flops, bytes_moved (int): of a step.
        compute_seconds (float): of its matrix products at the GPU's peak.
        traffic_seconds (float): of its bytes at the bandwidth.
        kernel_seconds (float): of its operations one after another, each at the slower of its two limits.
        operations (list of Operation): of a step.
        expected_seconds (float or None): of a step, by steps that were measured, see ``measured.py``; None if the model
            is not fuxictr-me's.
    """

    gpu: Gpu
    precision: str
    batch_size: int
    parameters: int
    embedding_parameters: int
    memory: Memory
    data: dict
    on_gpu: tuple
    flops: int
    bytes_moved: int
    compute_seconds: float
    traffic_seconds: float
    kernel_seconds: float
    operations: list
    expected_seconds: float | None

    @property
    def needed(self):
        """Bytes of the GPU's memory: the peak of a step, and the data that lie there."""
        return self.memory.peak + sum(self.data[split] for split in self.on_gpu)

    @property
    def fits(self):
        """Whether the GPU has as many."""
        return self.needed <= self.gpu.memory

    @property
    def floor_seconds(self):
        """Of a step: products and traffic at their limits, each wholly behind the other.

        Less only where caches and fused kernels spare traffic.
        """
        return max(self.compute_seconds, self.traffic_seconds)


def plan(model_class, feature_map, params, gpu_model="H100", rows=None):
    """Predict what training a model takes; nothing large is allocated.

    Args:
        model_class (type): as ``find_model`` gives it.
        feature_map (FeatureMap): of FuxiCTR.
        params (dict): settings of the run, as ``load_settings`` gives them.
        gpu_model (str): of ``fuxictr_me.estimates.GPUS``.
        rows (dict or None): ``train`` and ``valid`` -> rows, where known.

    Returns:
        Plan

    Raises:
        UsageError: an unknown GPU, or settings that the model refuses.
    """
    gpu = find_gpu(gpu_model)
    check_plan(model_class, params, feature_map, gpu.memory)
    found = simulate(model_class, feature_map, params)
    data, on_gpu = place_data(feature_map, params, rows or {}, gpu.memory - found.memory.weights)
    precision = params.get("precision", "float32")
    compute = [operation.flops / gpu.peak(precision) for operation in found.operations]
    traffic = [operation.bytes / gpu.bandwidth for operation in found.operations]
    return Plan(
        gpu=gpu,
        precision=precision,
        batch_size=params.get("batch_size", 32),
        parameters=found.parameters,
        embedding_parameters=found.embedding_parameters,
        memory=found.memory,
        data=data,
        on_gpu=on_gpu,
        flops=sum(operation.flops for operation in found.operations),
        bytes_moved=sum(operation.bytes for operation in found.operations),
        compute_seconds=sum(compute),
        traffic_seconds=sum(traffic),
        kernel_seconds=kernel_seconds(found.operations, gpu, precision),
        operations=found.operations,
        expected_seconds=_expected(model_class, params, gpu, found.operations),
    )


def kernel_seconds(operations: list, gpu: Gpu, precision: str) -> float:
    """Return the seconds of operations one after another, each at the slower of its two limits on a GPU."""
    return sum(max(o.flops / gpu.peak(precision), o.bytes / gpu.bandwidth) for o in operations)


def _expected(model_class: type, params: dict, gpu: Gpu, operations: list) -> float | None:
    if not is_fuxictr_me_model(model_class):
        return None
    precision = params.get("precision", "float32")
    measured_as = precision if precision in gpu.peaks else "float32"
    floor, is_recorded = kernel_seconds(operations, gpu, precision), params.get("cuda_graph", "auto") is not False
    return expected_seconds(floor, measured_as, bool(params.get("compile")), is_recorded, model_class.__name__)


def place_data(feature_map, params, rows, free):
    """Where ``H5DataLoader`` will hold the splits of a training run, the model being there already.

    Args:
        feature_map (FeatureMap)
        params (dict): settings of the run.
        rows (dict): split -> rows, where known.
        free (float): bytes that the GPU has left.

    Returns:
        (dict, tuple): split -> bytes; the splits that go to the GPU. Nothing where data are not fed from H5.
    """
    if params.get("data_format") != "h5" or params.get("data_loader") or params.get("streaming"):
        return {}, ()
    asked, sizes, on_gpu = params.get("data_placement", "auto"), {}, []
    for split in ("train", "valid"):
        if split not in rows:
            continue
        order = 8 if split == "train" and params.get("shuffle", True) else 0
        sizes[split] = rows[split] * (Layout.of(feature_map).row_bytes + order)
        if asked == "device" or (asked == "auto" and sizes[split] < SHARE_OF_FREE_MEMORY * free):
            on_gpu.append(split)
            free -= sizes[split]
    return sizes, tuple(on_gpu)


def what_would_fit(model_class, feature_map, params, gpu_model="H100", rows=None):
    """Changes of one setting each, with which a run that does not fit a GPU would.

    Args:
        model_class (type), feature_map (FeatureMap), params (dict), gpu_model (str), rows (dict): as of ``plan``.

    Returns:
        list of (str, object, Plan): setting, value, and what it would take. Sizes are halved until it fits.
    """
    ours, dim = is_fuxictr_me_model(model_class), params.get("embedding_dim", 10)
    sets = params.get("num_sets") or (4 if ours else 1)
    candidates = {"data_placement": ["memory"]}
    if isinstance(dim, int):
        candidates |= {"num_sets": _halved(sets)} if sets > 1 else {"embedding_dim": _halved(dim)}
    candidates["batch_size"] = _halved(params.get("batch_size", 32), least=2)  # batch norm needs two rows
    found = []
    for key, values in candidates.items():
        for value in values:
            try:
                changed = plan(model_class, feature_map, {**params, key: value}, gpu_model, rows)
            except UsageError:  # it does not go with the other settings
                break
            if changed.fits:
                found.append((key, value, changed))
                break
    return found


def _halved(value, least=1):
    return [value >> shift for shift in range(1, value.bit_length()) if value >> shift >= least]
