"""docs/any_model_zoo.md out of the results of ``zoo.py``."""

from zoo_models import LONG

PAGE = """# FuxiCTR's model zoo

[Embedding sets](any_model.md) for every torch model class of FuxiCTR's checkout. `benchmarks/zoo.py` made this page on
{run}, with FuxiCTR {commit} of {committed}, Python {python} and PyTorch {torch}, on {cores} shared {machine} cores. It
ran FuxiCTR's scripts, unmodified, with the settings that FuxiCTR tests a model with, on its tiny data:

```text
fuxictr-me host FuxiCTR/experiment/run_expid.py --config FOLDER --expid NAME --gpu -1
```

To each config were added `num_sets: 2`, a callback that keeps the first weights, and `merge: logits` where the first
try had asked for it.

{summary}

How to read the table:

- *Merge points*: `>m` is what goes into module `m`, `m>` what comes out of it, averaged over the sets; the logit goes
  into `output_activation`.
- *One epoch*: the run finished, and training changed every set wherever it changed set 0.
- *Exact*: two equal sets against the unwrapped model in float64, the largest difference of predictions, of gradients (a
  half in each set, all in the head) and of running statistics, relative to the largest value of each tensor. Gradients
  that are next to nothing are measured against a millionth of the model's largest one: hence the 1e-10 of some.
- *At once*: the same of three sets in one `torch.func.vmap`; or they only run in turn.

{table}
"""


def page(results):
    """The whole page, of ``{"about": versions, "models": {label: result}}``."""
    models = results["models"]
    return PAGE.format(**results["about"], summary=summary(models), table=table(models))


def summary(models):
    trained = {label: result for label, result in models.items() if trains(result)}
    found = [label for label, result in trained.items() if not result["merge"]]
    own = [label for label in trained if models[label]["data"] != LONG]
    refused = [label for label, result in models.items() if not result["steps"]]
    steps = [result["steps"] for result in trained.values()]
    checked = [result["checks"] for result in models.values() if "exact" in result["checks"]]
    same = sum(not checks["one_set_differs"] for checks in checked)
    doubled = sum(checks["embedding_parameters"] == 2 and not checks["without_gradient"] for checks in checked)
    lines = [
        f"**{len(trained)} of {len(models)} train**: {len(found)} at merge points that were found, "
        f"{len(trained) - len(found)} with `merge: logits`, as nothing trained is behind the sum.",
        f"{len(own)} of them on FuxiCTR's tiny data. LongCTR comes without data: its {len(trained) - len(own)} ran on "
        "a few made rows with FuxiCTR's default settings. Its script starts only in a copy without its check for "
        "FuxiCTR 2.3.2 and without the dots of its relative imports, and with a name that NumPy 2 has dropped.",
        f"Each split has 100 rows. At FuxiCTR's batch sizes an epoch is one step of {steps.count(1)} models, at most "
        f"{max(steps)}: that they train is shown, not that they learn.",
        f"{len(refused)} end before training: {', '.join(refused)}.",
        f"With one set, {same} of {len(checked)} are the unwrapped model bit for bit: names, weights and losses of two "
        "training steps, random numbers.",
        f"With two, {doubled} of {len(checked)} have twice the embedding parameters, and a gradient of the loss in "
        "every set wherever the unwrapped model has one.",
    ]
    return "\n".join(f"- {line}" for line in lines)


def trains(result):
    """Finished, at a merge point that the log names, with every set trained."""
    return result["finished"] and bool(result["merge_points"]) and not result["unmoved"]


def table(models):
    """A line for each model."""
    lines = ["| model | wraps | merge points | one epoch | exact | at once | note |", "|---|---|---|---|---|---|---|"]
    for label, result in models.items():
        checks = result["checks"]
        wraps = "no" if not result["merge_points"] else "`merge: logits`" if result["merge"] else "yes"
        points = ", ".join(f"`{point}`" for point in result["merge_points"])
        exact, at_once = power(checks.get("exact")), power(checks.get("exact_batched"))
        at_once = at_once or ("in turn" if exact else "")
        epoch = "yes" if trains(result) else "no"
        lines.append(f"| {label} | {wraps} | {points} | {epoch} | {exact} | {at_once} | {'; '.join(notes(result))} |")
    return "\n".join(lines)


def power(difference):
    """2.4e-16 -> 2e-16."""
    return "" if difference is None else f"{difference:.0e}" if difference else "0"


def notes(result):
    checks = result["checks"]
    if not result["finished"]:
        yield result["reason"] if result["refused"] else f"its script fails: {result['reason']}"
        if checks.get("refused", "") not in ("", result["reason"]):
            yield checks["refused"]
    if "error" in checks:
        yield f"not checked: {checks['error']}"
    for name, what in (("one_set_differs", "with one set other"), ("without_gradient", "without gradient")):
        if checks.get(name):
            yield f"{what}: {', '.join(checks[name])}"
    if result["unmoved"]:
        yield f"not trained: {', '.join(result['unmoved'])}"
    if result["merge_points"] and not result["merge"] and result["bare"]:
        yield f"no hidden layer before {', '.join(f'`{point}`' for point in result['bare'])}"
    if checks.get("float32"):
        yield f"float32 in any case: {', '.join(f'`{name}`' for name in checks['float32'])}"
    if "why_looped" in checks:
        yield checks["why_looped"].removeprefix("torch.func.vmap fails: ").partition(". ")[0]
    if checks.get("embedding_parameters", 2) != 2:
        yield f"{checks['embedding_parameters']:.2f} times the embedding parameters"
