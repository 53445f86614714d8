"""Write docs/any_model_zoo.md from the results of ``zoo.py``."""

import textwrap

from zoo_models import LONG

PAGE = """# FuxiCTR's model zoo

On this page you look up which models of FuxiCTR can get [embedding sets](any_model.md), and where their sets are
merged. It covers every torch model class of FuxiCTR's checkout. `benchmarks/zoo.py` wrote the page on {run}, with
FuxiCTR {commit} of {committed}, Python {python} and PyTorch {torch}, on {cores} shared {machine} cores. It ran
FuxiCTR's scripts, unmodified, on FuxiCTR's tiny data and with the settings of FuxiCTR's tests:

```text
fuxictr-me host FuxiCTR/experiment/run_expid.py --config FOLDER --expid NAME --gpu -1
```

To each config it added `num_sets: 2`, a callback that keeps the initial weights, and `merge: logits` if the first run
had asked for it.

{summary}

How to read the table:

- *Merge points*: `>m` is the input of module `m`, and `m>` is its output, averaged over the sets. The logit is the
  input of `output_activation`.
- *One epoch*: the run finished, and training changed every set wherever it changed set 0.
- *Exact*: a model with two equal sets, compared with the unwrapped model in float64. The number is the largest
  difference of predictions, of gradients (one half in each set, all in the head) and of running statistics, relative
  to the largest value of each tensor. Gradients near zero are compared with a millionth of the model's largest
  gradient, which explains the 1e-10 of some models.
- *At once*: the same comparison for three sets in one `torch.func.vmap`. Otherwise the sets run in turn.

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
        f"**{len(trained)} of {len(models)} models train**: {len(found)} with merge points that were found, and "
        f"{len(trained) - len(found)} with `merge: logits`, because they have nothing trained after the sum.",
        f"{len(own)} of them ran on FuxiCTR's tiny data. LongCTR has no data, so its {len(trained) - len(own)} models "
        "ran on a few generated rows with FuxiCTR's default settings. Its script starts only in a copy without its "
        "check for FuxiCTR 2.3.2, without the dots of its relative imports, and with a name that NumPy 2 has removed.",
        f"Each split has 100 rows. At FuxiCTR's batch sizes, an epoch is one step for {steps.count(1)} models, and at "
        f"most {max(steps)} steps. This shows that the models train, not that they learn.",
        f"{len(refused)} models end before training: {', '.join(refused)}.",
        f"With one set, {same} of {len(checked)} equal the unwrapped model bit for bit: names, weights, random "
        "numbers, and the losses of two training steps.",
        f"With two sets, {doubled} of {len(checked)} have twice the embedding parameters, and a gradient of the loss "
        "in every set wherever the unwrapped model has one.",
    ]
    return "\n".join(textwrap.fill(line, 118, initial_indent="- ", subsequent_indent="  ") for line in lines)


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
