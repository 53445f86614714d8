"""Export finished runs for a server: the model (ONNX, PyTorch's archive, safetensors) and the mapping to its ids."""
