"""What tests need of installed packages."""

import pytest
import torch

from fuxictr_me.serving.write_model import MIN_TORCH

needs_export = pytest.mark.skipif(
    torch.__version__ < MIN_TORCH, reason=f"onnx and pt2 need torch {'.'.join(map(str, MIN_TORCH))} or newer"
)
