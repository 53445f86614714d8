"""All sets at once against a loop over FuxiCTR's layers and torch.func.vmap over them: forward and backward of a batch.

    python benchmarks/sets.py [--batch 4096] [--sets 1 2 4 10] [--rounds 7] [--gpu -1 | --processor-time]

Criteo's shape: 39 fields, K = 10. A turn ends with the gradients of the embeddings and of all parameters. The three
take turns, so that whatever else the machine does hits all alike; a ratio is the median over the rounds of their time
to ours in the same round, above 1 where ours is faster. Each starts from embeddings in the layout that it likes best.

On a CPU that others use too, ``--processor-time`` with one thread counts what this process computes, not what the clock
shows. With many sets, what comes at once is of more than 32 MB: glibc gives that back to the system and faults it in
again every time, unless MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592 in the environment keep it.

FuxiCTR's batch norm can be mapped: its running statistics, stacked, move in place. Dropout is left out of all three.
"""

import argparse
import platform
import statistics
import time
from functools import partial

import torch
from fuxictr.pytorch.layers import CompressedInteractionNet, CrossNetV2, InnerProductInteraction, MLP_Block
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

from fuxictr_me.nn import MLP, CompressedInteraction, CrossNetwork, InnerProduct

NUM_FIELDS, DIM, HIDDEN, CROSS_LAYERS, CIN = 39, 10, 400, 4, [16, 16]
WIDTH = NUM_FIELDS * DIM


def projection(num_sets):
    return nn.Sequential(*MLP([HIDDEN], batch_norm=True).layers(num_sets, WIDTH))


def cin_without_logit():
    """FuxiCTR's CIN up to its last linear layer, which multi-embedding has behind the mean."""
    cin = CompressedInteractionNet(NUM_FIELDS, CIN)
    cin.fc = nn.Identity()
    return cin


# name -> (M -> all sets at once, one of FuxiCTR's layers, shape of a row)
MODULES = {
    f"{CROSS_LAYERS} cross layers": (
        lambda num_sets: CrossNetwork(num_sets, [DIM] * NUM_FIELDS, CROSS_LAYERS),
        partial(CrossNetV2, WIDTH, CROSS_LAYERS),
        (WIDTH,),
    ),
    f"hidden layer of {HIDDEN}, batch norm": (
        projection,
        partial(MLP_Block, WIDTH, hidden_units=[HIDDEN], batch_norm=True),
        (WIDTH,),
    ),
    f"CIN of {', '.join(map(str, CIN))}": (
        lambda num_sets: CompressedInteraction(num_sets, NUM_FIELDS, CIN, activation=None),
        cin_without_logit,
        (NUM_FIELDS, DIM),
    ),
    "inner products": (
        lambda num_sets: InnerProduct(NUM_FIELDS),
        partial(InnerProductInteraction, NUM_FIELDS, output="inner_product"),
        (NUM_FIELDS, DIM),
    ),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=4096, help="rows (default: 4096)")
    parser.add_argument("--sets", type=int, nargs="+", default=[1, 2, 4, 10], help="M (default: 1 2 4 10)")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contestant (default: 7)")
    parser.add_argument("--gpu", type=int, default=-1, help="CUDA device, -1 for the CPU (default: -1)")
    parser.add_argument("--processor-time", action="store_true", help="see above; set OMP_NUM_THREADS=1")
    arguments = parser.parse_args()
    clock = time.process_time if arguments.processor_time else time.perf_counter
    torch.manual_seed(0)
    torch.backends.cudnn.allow_tf32 = False  # as products of matrices are by default
    device = torch.device(f"cuda:{arguments.gpu}" if arguments.gpu >= 0 else "cpu")
    machine = torch.cuda.get_device_name(device) if arguments.gpu >= 0 else f"{platform.machine()} CPU"
    print(f"{machine}, {torch.get_num_threads()} threads, torch {torch.__version__}, batch {arguments.batch:,}\n")
    print("| module | sets | ours, ms | loop over FuxiCTR's | vmap over FuxiCTR's |")
    print("|---|---|---|---|---|")
    for name, (all_sets, one_set, shape) in MODULES.items():
        for num_sets in arguments.sets:
            e = torch.randn(num_sets, arguments.batch, *shape, device=device)
            layers = [one_set().to(device) for _ in range(num_sets)]
            contestants = [all_at_once(all_sets(num_sets).to(device), e), looped(layers, e), vmapped(layers, e)]
            turns = range(arguments.rounds + 1)
            times = [[seconds(contestant, device, clock) for contestant in contestants] for _ in turns]
            ours, *others = zip(*times[1:], strict=True)  # the first round warms up
            ratios = [statistics.median(a / b for a, b in zip(theirs, ours, strict=True)) for theirs in others]
            cells = [f"{1e3 * statistics.median(ours):.1f}", *(f"{ratio:.2f}x" for ratio in ratios)]
            print(f"| {name} | {num_sets} | {' | '.join(cells)} |", flush=True)


def all_at_once(module, e):
    """Ours: e (M, B, ·) as the embedding layer hands it on, (B, M, ·) and set after set in memory."""
    x = e.transpose(0, 1).requires_grad_()
    return partial(forward_and_backward, lambda: [module(x)], [x, *module.parameters()])


def looped(layers, e):
    """One layer after the other, each on a tensor of its own."""
    x = [of_set.clone().requires_grad_() for of_set in e]
    parameters = [p for layer in layers for p in layer.parameters() if p.requires_grad]
    return partial(
        forward_and_backward,
        lambda: [layer(of_set) for layer, of_set in zip(layers, x, strict=True)],
        x + parameters,
    )


def vmapped(layers, e):
    """One layer mapped over the sets, its weights and buffers stacked."""
    x = e.clone().requires_grad_()
    parameters, buffers = stack_module_state(layers)
    trained = [p for p in parameters.values() if p.requires_grad]
    if not trained:  # inner products hold their mask as a parameter, and masked_select cannot be mapped over masks
        return partial(forward_and_backward, lambda: [vmap(layers[0])(x)], [x])

    def one_set(weights, running, of_set):
        return functional_call(layers[0], (weights, running), (of_set,))

    return partial(forward_and_backward, lambda: [vmap(one_set)(parameters, buffers, x)], [x, *trained])


def forward_and_backward(forward, leaves):
    """Gradients of the sum of what ``forward`` gives."""
    outputs = forward()
    torch.autograd.grad(outputs, leaves, [torch.ones_like(out) for out in outputs])


def seconds(contestant, device, clock):
    """Of one turn, what it leaves to the device included."""
    start = clock()
    contestant()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - start


if __name__ == "__main__":
    main()
