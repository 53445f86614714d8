"""Marks of tests that need a newer version of a package than the oldest that is supported."""

import pytest
import torch

from fuxictr_me.serving.write_model import MIN_TORCH

needs_export = pytest.mark.skipif(
    torch.__version__ < MIN_TORCH, reason=f"onnx and pt2 need torch {'.'.join(map(str, MIN_TORCH))} or newer"
)
