"""W&B and TensorBoard, which mirror the run folder."""
