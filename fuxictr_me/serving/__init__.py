"""Finished runs for a server: ONNX, PyTorch's own archive, or safetensors, and raw values to ids without FuxiCTR."""
