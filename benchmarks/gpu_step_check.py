"""Check and time recorded steps, padded widths and table updates on one GPU: equality first, then figures as they come.

    python benchmarks/gpu_step_check.py [--out folder] [--limit 200] [--parts equality,fallback,...]

DCNv2 with Criteo's 39 fields, as benchmarks/step.py has it, on data made on the GPU. A figure is ms a step, pipelined:
the time of many steps over their number, with one wait for the device at the end. Each part is independent: one that
fails is reported, and the others go on. ``--out`` gets a line of JSON for each result. ``--tiny`` runs every part on a
CPU at a small size, where a replay calls the step again and nothing is compiled, to see that the script works.
"""

import argparse
import contextlib
import copy
import gc
import itertools
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import traceback
import types
from pathlib import Path

import torch

START = time.perf_counter()
LAYERS = {"stacked_dnn_hidden_units": [400, 400], "num_cross_layers": 4, "net_dropout": 0.2, "batch_norm": True}
MODEL = {"optimizer": "adam", "loss": "binary_crossentropy", "task": "binary_classification", "verbose": 0}
MODEL |= {"metrics": ["AUC", "logloss"], "embedding_regularizer": 1e-5, "embedding_dim": 10}
FULL = {"ids": 1_000_000, "batch": 4096, "large_batch": 10_000, "rows": 3_300_326, "steps": 40, "sets": (4, 10)}
TINY = {"ids": 1_000, "batch": 64, "large_batch": 100, "rows": 1_030, "steps": 3, "sets": (2, 3)}
SMALL_LAYERS = {
    "DNN_ME": {"hidden_units": [64, 40], "net_dropout": 0.2, "batch_norm": True},
    "PNN_ME": {"hidden_units": [64, 40], "net_dropout": 0.2, "batch_norm": True, "concat_embeddings": True},
    "NFwFM_ME": {"hidden_units": [64, 40], "net_dropout": 0.2, "batch_norm": True},
    "xDeepFM_ME": {"dnn_hidden_units": [64, 40], "cin_hidden_units": [16, 16], "net_dropout": 0.2, "batch_norm": True},
    "DCNv2_ME": {"stacked_dnn_hidden_units": [64, 40], "num_cross_layers": 3, "net_dropout": 0.2, "batch_norm": True},
    "FinalMLP_ME": {"mlp1_hidden_units": [64, 40], "mlp2_hidden_units": [48], "mlp1_dropout": 0.2, "mlp2_dropout": 0.2},
}


class Bench:
    """What the parts share: sizes, the device, feature maps, and where results go."""

    def __init__(self, arguments, folder):
        self.tiny, self.limit = arguments.tiny, arguments.limit
        self.size = types.SimpleNamespace(**(TINY if arguments.tiny else FULL))
        self.device = torch.device("cpu" if arguments.tiny else "cuda:0")
        self.folder, self.maps, self.models = Path(folder), {}, {}
        self.out = Path(arguments.out) / "gpu_step_check.jsonl" if arguments.out else None

    def say(self, part, **values):
        """Print a result, and write it as a line of JSON."""
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in values.items())
        print(f"[{time.perf_counter() - START:5.0f} s] {part}: {shown}", flush=True)
        if self.out:
            with self.out.open("a") as file:
                file.write(json.dumps({"part": part, **values}) + "\n")

    def out_of_time(self):
        return time.perf_counter() - START > self.limit

    def feature_map(self, ids):
        from fuxictr_me.data import feature_maps
        from fuxictr_me.data.synthetic import SyntheticClicks

        if ids not in self.maps:
            place = self.folder / f"ids_{ids}"
            place.mkdir()
            content = SyntheticClicks(num_fields=39, num_ids=ids).feature_map(place.name)
            (place / "feature_map.json").write_text(json.dumps(content))
            self.maps[ids] = feature_maps.load(place)
        return self.maps[ids]

    def model(self, num_sets, ids=None):
        """DCNv2_ME of so many sets, kept for the next part that asks for it."""
        import fuxictr_me

        ids = ids or self.size.ids
        if (num_sets, ids) not in self.models:
            self.models.clear()
            self.clean()
            with self.device:  # initialised there
                model = fuxictr_me.DCNv2_ME(
                    self.feature_map(ids),
                    gpu=self.gpu,
                    num_sets=num_sets,
                    model_root=str(self.folder),
                    **LAYERS,
                    **MODEL,
                )
            self.models[num_sets, ids] = model
        return self.models[num_sets, ids]

    @property
    def gpu(self):
        return -1 if self.device.type == "cpu" else 0

    def wait(self):
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def clean(self):
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def memory(self):
        """(MB allocated at the peak, MB held at the peak) since ``clean``."""
        if self.device.type != "cuda":
            return 0.0, 0.0
        return torch.cuda.max_memory_allocated() / 1e6, torch.cuda.max_memory_reserved() / 1e6

    def prepare(self, model, recorded, precision="float32", compiled=False):
        """Set a model up for training in one way; its weights go on from where they are."""
        from fuxictr_me.training import CompiledOrEager
        from fuxictr_me.training.cuda_graph import CallRecorder
        from fuxictr_me.training.step import Step

        model.precision, model.cuda_graph, model._steps, model._step = precision, recorded, None, None
        if self.tiny:
            model.recorder, model._step = CallRecorder(), Step(model, on_cpu=False)
        model._compiled_answer = None
        if compiled:
            torch._dynamo.reset()
            model._compiled_answer = CompiledOrEager(model._arrange_and_answer, model.device)
        model.train()
        model._max_gradient_norm, model._total_steps, model._stop_training = 10.0, 0, False
        model._eval_steps = 10**9
        model.optimizer.zero_grad()
        self.clean()
        return model


def data_on_device(bench, feature_map, rows, batch_size, seed=1, shuffle=True):
    """An H5DataLoader whose rows were made on the device rather than read."""
    try:
        import h5py  # noqa: F401
    except ImportError:
        sys.modules["h5py"] = types.ModuleType("h5py")  # no file is read
    from fuxictr_me.data.h5_loader import H5DataLoader
    from fuxictr_me.data.lanes import Lanes
    from fuxictr_me.data.layout import Layout, dtype_of

    layout = Layout.of(feature_map)
    random = torch.Generator(bench.device).manual_seed(seed)
    held = {
        name: torch.zeros(rows, width, dtype=getattr(torch, dtype_of(name)), device=bench.device)
        for name, width in layout.widths.items()
    }
    for name, place in layout.places.items():
        u = torch.rand(rows, generator=random, device=bench.device)
        size = feature_map.features[name]["vocab_size"] - 2 if name in feature_map.features else None
        column = (u < 0.25) if size is None else (u**3 * size).long().clamp_(max=size - 1) + 1  # frequent ids first
        held[place.matrix][:, place.start] = column.to(held[place.matrix].dtype)
    loader = H5DataLoader.__new__(H5DataLoader)
    loader.batch_size, loader.shuffle, loader.seed, loader.epoch = batch_size, shuffle, 2024, 0
    loader.device, loader.num_samples, loader.num_blocks, loader.lanes = bench.device, rows, 1, None
    loader.rows, loader._held, loader.placement = types.SimpleNamespace(layout=layout), held, "device"
    loader._share = Lanes(rows, batch_size, 0, 1, shuffle)
    loader._own = loader._share.rows
    return loader


def steps_of(model, loader, count):
    """Train ``count`` batches, epoch after epoch; returns the last loss."""
    batches = itertools.chain.from_iterable(model._training_batches(loader) for _ in itertools.count())
    full = (b for b in batches if _rows(b) == loader.batch_size)
    for batch in itertools.islice(full, count):
        loss = model.train_step(batch)
    return loss


def _rows(batch):
    return len(batch.rows) if hasattr(batch, "rows") else len(next(iter(batch.values())))


def time_steps(bench, model, loader, part, **names):
    """ms a step, pipelined; whether it was recorded; peak memory."""
    begin = bench.wait()
    steps_of(model, loader, 8)
    started = bench.wait()
    loss = steps_of(model, loader, bench.size.steps)
    issued = time.perf_counter()
    ended = bench.wait()
    allocated, held = bench.memory()
    recorded = bool(model._steps.is_on and model._steps.replay is not None and model._steps.is_checked)
    bench.say(
        part,
        **names,
        ms=1e3 * (ended - started) / bench.size.steps,
        cpu_ms=1e3 * (issued - started) / bench.size.steps,
        recorded=recorded,
        mb=round(allocated),
        reserved_mb=round(held),
        first_steps_s=started - begin,
        rows=type(model._step.rows[0]).__name__,
        loss=float(loss),
    )


# --- parts -----------------------------------------------------------------------------------------


def environment(bench):
    values = {"torch": torch.__version__, "python": sys.version.split()[0], "cpus": os.cpu_count()}
    if bench.device.type == "cuda":
        values |= {"device": torch.cuda.get_device_name(), "cuda": torch.version.cuda}
    with contextlib.suppress(ImportError):
        import triton

        values["triton"] = triton.__version__
    bench.say("environment", **values)


def equality(bench):
    """CPU against GPU, and recorded against eager: losses of 14 steps, with a short batch and another learning rate."""
    import fuxictr_me

    feature_map, cpu = bench.feature_map(500), torch.device("cpu")
    loader = data_on_device(bench, feature_map, 14 * 256 + 57, 256)
    for name, layers in SMALL_LAYERS.items():
        try:
            build = {**layers, **MODEL, "num_sets": 3, "embedding_dim": 5, "model_root": str(bench.folder)}
            build["embedding_initializer"] = "partial(nn.init.normal_, std=0.1)"
            model_class = getattr(fuxictr_me, name)
            on_cpu = model_class(feature_map, gpu=-1, **build)
            on_device = model_class(feature_map, gpu=bench.gpu, **build)
            eager, recorded = (model_class(feature_map, gpu=bench.gpu, **build) for _ in range(2))
            for module in [*on_cpu.modules(), *on_device.modules()]:
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0  # a CPU draws other numbers
            weights = copy.deepcopy(on_cpu.state_dict())
            losses = {}
            for label, model in zip(
                ("cpu", "device", "eager", "recorded"), (on_cpu, on_device, eager, recorded), strict=True
            ):
                model.load_state_dict(weights)
                bench.prepare(model, "auto" if label == "recorded" else False)
                losses[label] = _fourteen_losses(model, loader, cpu if label == "cpu" else bench.device)
            bench.say(
                "equality",
                family=name,
                cpu_against_device=_distance(losses["cpu"], losses["device"]),
                recorded_against_eager=_distance(losses["eager"], losses["recorded"]),
                recorded=bool(recorded._steps.is_checked),
                equal=_distance(losses["cpu"], losses["device"]) < 2e-3
                and _distance(losses["eager"], losses["recorded"]) < 2e-3
                and bool(recorded._steps.is_checked),
                after_14_steps=losses["recorded"][-1],
            )
        except Exception:  # noqa: BLE001 the next family may be right
            bench.say("equality FAILED", family=name, error=traceback.format_exc(limit=-4))


def _fourteen_losses(model, loader, device):
    losses = []
    loader.epoch = 0
    batches = list(loader)
    batches.insert(8, batches.pop())  # the short one
    for step, batch in enumerate(batches[:14]):
        torch.manual_seed(step)
        if step == 10:
            model.lr_decay(0.3)
        losses.append(float(model.train_step({name: x.to(device) for name, x in batch.items()})))
    return losses


def _distance(a, b):
    return max(abs(x - y) / abs(x) for x, y in zip(a, b, strict=True))


def fallback(bench):
    """A step that waits, and a recording that fails, are named, and training goes on; dropout too."""
    if bench.device.type == "cpu":
        bench.say("fallback", skipped="needs a GPU")
        return
    model = bench.model(bench.size.sets[0], 500 if bench.tiny else 20_000)
    loader = data_on_device(bench, model.feature_map, 20 * bench.size.batch, bench.size.batch)
    forward = type(model).forward

    def waiting(inputs):
        result = forward(model, inputs)
        result["y_pred"].sum().item()
        return result

    def failing(inputs):
        if torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize()
        return forward(model, inputs)

    for label, function in (("waits", waiting), ("fails", failing)):
        lines = []
        handler = logging.Handler(logging.INFO)
        handler.emit = lambda record, lines=lines: lines.append(record.getMessage())
        logging.getLogger().addHandler(handler)
        try:
            model.forward = function
            bench.prepare(model, "auto")
            losses = [float(steps_of(model, loader, 4)) for _ in range(3)]
        finally:
            del model.forward
            logging.getLogger().removeHandler(handler)
        said = [line for line in lines if "cuda_graph" in line]
        bench.say("fallback", case=label, is_off=not model._steps.is_on, said=said, losses=losses)
    bench.prepare(model, "auto")
    steps_of(model, loader, 10)
    bench.say("fallback", case="afterwards", recorded=bool(model._steps.is_checked))


def steps(bench):
    """Eager and recorded steps of each precision, without torch.compile."""
    for num_sets in reversed(bench.size.sets):
        model = bench.model(num_sets)
        loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
        for precision, recorded in itertools.product(("float32", "tf32", "bf16"), (False, "auto")):
            if bench.out_of_time():
                return
            with _guard(bench, f"steps M={num_sets} {precision} {recorded}"):
                bench.prepare(model, recorded, precision)
                time_steps(bench, model, loader, "step", M=num_sets, precision=precision, graph=recorded is not False)


def padding(bench):
    """Recorded steps with widths padded to several multiples (1: not padded)."""
    from fuxictr_me.interactions import widths

    num_sets, before = bench.size.sets[-1], widths.MULTIPLE
    model = bench.model(num_sets, bench.size.ids // 10)
    loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
    try:
        cells = [("tf32", 1), ("tf32", 8), ("bf16", 1), ("bf16", 8)]
        for precision, multiple in cells:
            if bench.out_of_time():
                return
            with _guard(bench, f"padding {precision} {multiple}"):
                widths.MULTIPLE = multiple
                bench.prepare(model, "auto", precision)
                time_steps(bench, model, loader, "padding", M=num_sets, precision=precision, multiple=multiple)
    finally:
        widths.MULTIPLE = before


def kernels(bench):
    """The table's kernel left out, against the parts above, which have it where it can be used."""
    from fuxictr_me.training import rows

    if not hasattr(rows, "find_kernels"):
        bench.say("kernels", skipped="there is no kernel")
        return
    find, num_sets = rows.find_kernels, bench.size.sets[-1]
    model = bench.model(num_sets)
    loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
    try:
        for kernel in (True, False):
            with _guard(bench, f"kernels {kernel}"):
                rows.find_kernels = find if kernel else lambda weight: None
                bench.prepare(model, "auto", "tf32")
                time_steps(bench, model, loader, "kernels", M=num_sets, precision="tf32", kernel=kernel)
    finally:
        rows.find_kernels = find
        model._step = None


def compiled(bench):
    """Compiled and recorded steps, with profiles; epochs and evaluations with the model of fewer sets."""
    few, many = bench.size.sets[0], bench.size.sets[-1]
    for num_sets, precision in ((many, "tf32"), (few, "tf32"), (many, "float32"), (many, "bf16")):
        if bench.out_of_time():
            return
        with _guard(bench, f"compiled M={num_sets} {precision}"):
            model = bench.prepare(bench.model(num_sets), "auto", precision, compiled=True)
            loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
            time_steps(bench, model, loader, "compiled", M=num_sets, precision=precision, graph=True)
            if precision != "bf16":
                profile(bench, model, loader, f"compiled M={num_sets} {precision}")
            if num_sets == few:
                epochs(bench, model)


def variants(bench):
    """Compiled and recorded steps with other chunks of rows, other loops over the sets, and another library."""
    from fuxictr_me.interactions import widths
    from fuxictr_me.training import compiled as of_compiling

    many = bench.size.sets[-1]
    for precision, name, value in (
        ("tf32", "LEAST_TILES", {True: 256}),
        ("tf32", "LARGEST_MEAN", 8),
        ("float32", "LEAST_TILES", {False: 0}),
        ("float32", "library", "cublaslt"),
    ):
        if bench.out_of_time():
            return
        with _guard(bench, f"variant {precision} {name} {value}"), contextlib.ExitStack() as stack:
            if name == "library":
                if bench.device.type == "cuda":
                    before = torch.backends.cuda.preferred_blas_library()
                    torch.backends.cuda.preferred_blas_library(value)
                    stack.callback(torch.backends.cuda.preferred_blas_library, before)
            else:
                place = widths if name == "LEAST_TILES" else of_compiling
                stack.callback(setattr, place, name, getattr(place, name))
                setattr(place, name, value)
            model = bench.prepare(bench.model(many), "auto", precision, compiled=True)
            loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
            time_steps(bench, model, loader, "variant", M=many, precision=precision, **{name: str(value)})


def products(bench):
    """The three products of a layer alone, whole and in chunks of rows, in two libraries."""
    if bench.device.type == "cuda":
        libraries, rows = ("cublas", "cublaslt"), bench.size.batch
    else:
        libraries, rows = ("cublas",), 64
    for precision, library, num_sets in itertools.product(("float32", "tf32", "bf16"), libraries, bench.size.sets):
        width = 390 if precision == "float32" else 392
        with _guard(bench, f"products {precision} {library}"):
            if bench.device.type == "cuda":
                torch.backends.cuda.preferred_blas_library(library)
            torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
            dtype = torch.bfloat16 if precision == "bf16" else torch.float32
            make = {"device": bench.device, "dtype": dtype}
            x, g = (torch.randn(num_sets, rows, width, **make) for _ in range(2))
            weight = torch.randn(num_sets, width, width, **make)
            times = {
                "forward": time_product(bench, torch.bmm, x, weight.transpose(1, 2)),
                "forward, set by set": time_product(bench, _products_one_by_one, x, weight),
                "of x": time_product(bench, torch.bmm, g, weight),
            }
            for chunks in (1, 2, 4, 8, 16):
                a, b = (z.reshape(num_sets * chunks, -1, width) for z in (g, x))
                times[f"of W, {chunks}"] = time_product(bench, _gradient_by_chunks, a, b, chunks)
            bench.say("products", M=num_sets, precision=precision, library=library, **times)
    torch.set_float32_matmul_precision("highest")
    if bench.device.type == "cuda":
        torch.backends.cuda.preferred_blas_library("cublas")


def _products_one_by_one(x, weight):
    return [a @ b.T for a, b in zip(x, weight, strict=True)]


def _gradient_by_chunks(g, x, chunks):
    return torch.bmm(g.transpose(1, 2), x).unflatten(0, (-1, chunks)).sum(1)


def time_product(bench, function, *arguments, repeats=20):
    """ms of a call."""
    for _ in range(3):
        function(*arguments)
    started = bench.wait()
    for _ in range(repeats):
        function(*arguments)
    return 1e3 * (bench.wait() - started) / repeats


def memory(bench):
    """Peak memory of training, each kind in a process of its own: all at once."""
    few, many = bench.size.sets[0], bench.size.sets[-1]
    cells = [(many, "float32", 0), (many, "tf32", 1), (few, "float32", 0), (few, "tf32", 1), (many, "float32", -1)]
    command = [sys.executable, __file__, *(["--tiny"] if bench.tiny else []), "--memory-cell"]
    children = [
        subprocess.Popen([*command, *map(str, cell)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for cell in cells
    ]
    for cell, child in zip(cells, children, strict=True):
        out = child.communicate()[0].strip().splitlines()
        found = next((line for line in reversed(out) if line.startswith("{")), None)
        if found is None:
            bench.say("memory FAILED", cell=cell, output=out[-8:])
        else:
            bench.say("memory", **json.loads(found))


def memory_cell(bench, num_sets, precision, kind):
    """One cell of ``memory``: kind -1 is eager, 0 recorded, 1 compiled and recorded. Prints a line of JSON."""
    feature_map = bench.feature_map(bench.size.ids)
    loader = data_on_device(bench, feature_map, 12 * bench.size.batch + 7, bench.size.batch)
    model = bench.model(num_sets)
    bench.prepare(model, kind >= 0 and "auto", precision, compiled=kind == 1)
    for _ in range(2):
        model.train_epoch(loader)  # short batches too
    bench.wait()
    allocated, held = bench.memory()
    recorded = bool(model._steps.is_checked)
    values = {"M": num_sets, "precision": precision, "kind": ("eager", "recorded", "compiled")[kind + 1]}
    print(json.dumps({**values, "recorded": recorded, "mb": round(allocated), "reserved_mb": round(held)}))


def profile(bench, model, loader, part):
    """The kernels that take most of a step."""
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as profiler

    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * (bench.device.type == "cuda")
    count = 10
    with _guard(bench, "profile"), profiler(activities=activities) as seen:
        steps_of(model, loader, count)
        bench.wait()
    on_device = bench.device.type == "cuda"
    rows = []
    for event in seen.key_averages():
        total = event.self_device_time_total if on_device else event.self_cpu_time_total
        if total and (not on_device or event.device_type != torch.autograd.DeviceType.CPU):
            rows.append((total / 1e3 / count, event.count / count, event.key))
    rows.sort(reverse=True)
    bench.say("profile", of=part, ms_of_all=sum(row[0] for row in rows), kernels_a_step=sum(row[1] for row in rows))
    for ms, times, name in rows[:28]:
        bench.say("kernel", of=part, ms=ms, times=times, name=name[:110])


def epochs(bench, model):
    """Part of an epoch at two batch sizes, feeding included, and evaluations."""
    rows = bench.size.rows
    evaluated = data_on_device(bench, model.feature_map, rows, bench.size.large_batch, seed=2, shuffle=False)
    for batch in (bench.size.batch, bench.size.large_batch):
        if bench.out_of_time():
            return
        with _guard(bench, f"epoch {batch}"):
            if batch != bench.size.batch:
                bench.prepare(model, "auto", "tf32", compiled=True)
            loader = data_on_device(bench, model.feature_map, rows, batch)
            begin = bench.wait()
            steps_of(model, loader, 8)
            started = bench.wait()
            model.train_epoch(loader)
            seconds = bench.wait() - started
            bench.say(
                "epoch",
                M=model.num_sets,
                batch=batch,
                rows=rows,
                s=seconds,
                s_of_33003326_rows=seconds * 33_003_326 / rows,
                ms_a_step=1e3 * seconds / len(loader),
                first_steps_s=started - begin,
                recorded=bool(model._steps.is_checked),
            )
            del loader
            for _ in range(2):
                started = bench.wait()
                logs = model.evaluate(evaluated)
                bench.say(
                    "evaluation", batch=bench.size.large_batch, rows=rows, s=bench.wait() - started, auc=logs["AUC"]
                )
            model.train()


def eager_profile(bench):
    """The kernels of a recorded step that is not compiled, in float32 and with fewer sets in tf32."""
    for num_sets, precision in ((bench.size.sets[-1], "float32"), (bench.size.sets[0], "tf32")):
        if bench.out_of_time():
            return
        with _guard(bench, f"profile {precision}"):
            model = bench.prepare(bench.model(num_sets), "auto", precision)
            loader = data_on_device(bench, model.feature_map, 64 * bench.size.batch, bench.size.batch)
            steps_of(model, loader, 8)
            profile(bench, model, loader, f"M={num_sets} {precision}")


@contextlib.contextmanager
def _guard(bench, what):
    """Report an error, and go on."""
    try:
        yield
    except Exception:  # noqa: BLE001 the next part may be right
        bench.say("FAILED", what=what, error=traceback.format_exc(limit=-6))
        bench.models.clear()


PARTS = {
    "environment": environment,
    "equality": equality,
    "products": products,
    "compiled": compiled,
    "memory": memory,
    "variants": variants,
    "steps": steps,
    "kernels": kernels,
    "padding": padding,
    "eager_profile": eager_profile,
    "fallback": fallback,  # last: a recording that failed may leave traces
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", help="folder for gpu_step_check.jsonl")
    parser.add_argument("--tiny", action="store_true", help="on a CPU, at a small size")
    parser.add_argument(
        "--limit", type=float, default=200, help="seconds after which nothing new begins (default: 200)"
    )
    parser.add_argument("--parts", default=",".join(PARTS), help=f"default: {','.join(PARTS)}")
    parser.add_argument("--memory-cell", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger().handlers[0].addFilter(
        lambda record: record.levelno > logging.INFO or "cuda_graph" in record.msg
    )
    if arguments.tiny:
        from fuxictr_me.interactions import widths

        torch.compile, widths.ON_CPU = (lambda function, **_: function), True
    if arguments.out:
        Path(arguments.out).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, folder)
        if arguments.memory_cell:
            num_sets, precision, kind = arguments.memory_cell
            return memory_cell(bench, int(num_sets), precision, int(kind))
        for name in arguments.parts.split(","):
            if bench.out_of_time():
                bench.say("out of time", part_left_out=name)
                continue
            with _guard(bench, name):
                PARTS[name](bench)
    bench.say("done", seconds=time.perf_counter() - START)


if __name__ == "__main__":
    main()
