"""Measured times of training steps on one GPU, from which ``plan`` estimates those of other models and GPUs.

To update them, run ``make bench-gpu`` on a GPU, copy its figures to ``STEPS`` and ``PEAKS``, and fit the line again.

DCNv2, 39 fields, 4 and 10 sets of 10, 1M ids, 4,096 rows, 4 cross layers, hidden layers of 400, batch norm, dropout,
L2 and Adam, by ``benchmarks/gpu/run.py``. A step that is recorded as a CUDA graph takes

    overhead + floor / share,

where the floor is the sum of its operations, each at the slower of the GPU's two limits (``Plan.kernel_seconds``). The
line fits the measured steps within 6 %, and steps of DNN, FinalMLP and NFwFM within 30 %. PNN and xDeepFM take longer,
see ``SLOWER``. A compiled step can have a share above 1: its kernels fuse operations, and move fewer bytes than the
floor counts.
"""

MEASURED = "one H200, 2026-11-26, torch 2.11.0+cu130"
# compile -> seconds of a step beyond its floor: small kernels, and the gaps between kernels
OVERHEAD = {False: 0.74e-3, True: 0.55e-3}
# (compile, precision) -> share of the floor
SHARES = {
    (False, "float32"): 0.64,
    (False, "tf32"): 0.65,
    (False, "bf16"): 0.63,
    (True, "float32"): 0.70,
    (True, "tf32"): 0.90,
    (True, "bf16"): 1.21,
}
# compile -> seconds that the host needs to launch a step that is not recorded: 7.0 to 10.8 ms in three runs; 4.1 ms
LAUNCHING = {False: 8.5e-3, True: 4.1e-3}
# (M, precision, compile) -> ms of a recorded step, as measured; tests compare the line with them
STEPS = {
    (10, "float32", False): 9.09,
    (4, "float32", False): 4.16,
    (10, "tf32", False): 5.19,
    (4, "tf32", False): 2.59,
    (10, "bf16", False): 4.88,
    (4, "bf16", False): 2.44,
    (10, "float32", True): 8.10,
    (4, "float32", True): 3.65,
    (10, "tf32", True): 3.76,
    (4, "tf32", True): 1.87,
    (10, "bf16", True): 2.69,
    (4, "bf16", True): 1.45,
}

# (M, precision) -> MB at the peak of a recorded step, each in a new process
PEAKS = {(10, "float32"): 2386, (4, "float32"): 1086}
# (model, compile) -> factor by which its steps took longer than the line says
SLOWER = {("PNN_ME", False): 1.9, ("xDeepFM_ME", False): 1.9, ("xDeepFM_ME", True): 1.9}


def expected_seconds(
    floor: float, precision: str, is_compiled: bool = False, is_recorded: bool = True, model: str = "DCNv2_ME"
) -> float:
    """Return the seconds that a training step of a fuxictr-me model is expected to take.

    Args:
        floor: ``Plan.kernel_seconds``.
        precision: of its matrix products.
        is_compiled: ``compile``.
        is_recorded: whether it is replayed as a CUDA graph: ``cuda_graph``.
        model: name of the model's class.
    """
    seconds = (OVERHEAD[is_compiled] + floor / SHARES[is_compiled, precision]) * SLOWER.get((model, is_compiled), 1.0)
    return seconds if is_recorded else max(seconds, LAUNCHING[is_compiled])
