"""Measured times of training steps on one GPU, from which ``plan`` expects those of others.

To bring it up to date: ``make bench-gpu`` on a GPU, its figures into ``STEPS`` and ``PEAKS``, and the line fitted anew.

DCNv2, 39 fields, 4 and 10 sets of 10, 1M ids, 4,096 rows, 4 cross layers, hidden layers of 400, batch norm, dropout,
L2 and Adam, by ``benchmarks/gpu/run.py``. A step that is recorded as a CUDA graph takes

    overhead + floor / share,

where the floor is that of its operations one after the other, each at the slower of the GPU's two limits
(``Plan.kernel_seconds``). The line fits the measured steps within 4 %. A compiled step can have a share above 1: its
kernels do several operations at once, and move fewer bytes than the floor counts.
"""

MEASURED = "one H200, 2026-11-26, torch 2.11.0+cu130"
# compile -> seconds of a step that its floor does not explain: small kernels, and the gaps between them
OVERHEAD = {False: 0.78e-3, True: 0.72e-3}
# (compile, precision) -> share of the floor
SHARES = {
    (False, "float32"): 0.63,
    (False, "tf32"): 0.65,
    (False, "bf16"): 0.63,
    (True, "float32"): 0.73,
    (True, "tf32"): 0.93,
    (True, "bf16"): 1.15,
}
# compile -> seconds in which the host launches a step that is not recorded: 8.0 to 10.8 ms, by the hour; 4.1 ms
LAUNCHING = {False: 9.4e-3, True: 4.1e-3}
# (M, precision, compile) -> ms of a recorded step, as measured; tests hold the line against them
STEPS = {
    (10, "float32", False): 9.164,
    (4, "float32", False): 4.236,
    (10, "tf32", False): 5.241,
    (4, "tf32", False): 2.627,
    (10, "bf16", False): 4.876,
    (4, "bf16", False): 2.440,
    (10, "float32", True): 8.032,
    (10, "tf32", True): 3.831,
    (4, "tf32", True): 2.005,
    (10, "bf16", True): 2.965,
}

# (M, precision) -> MB of the peak of a recorded step, in a process of its own
PEAKS = {(10, "float32"): 2388, (4, "float32"): 1089}


def expected_seconds(floor: float, precision: str, is_compiled: bool = False, is_recorded: bool = True) -> float:
    """Return the seconds that a training step of a fuxictr-me model is expected to take.

    Args:
        floor: seconds of its operations one after the other, ``Plan.kernel_seconds``.
        precision: of its matrix products.
        is_compiled: ``compile``.
        is_recorded: whether it is replayed as a CUDA graph: ``cuda_graph``.
    """
    seconds = OVERHEAD[is_compiled] + floor / SHARES[is_compiled, precision]
    return seconds if is_recorded else max(seconds, LAUNCHING[is_compiled])
