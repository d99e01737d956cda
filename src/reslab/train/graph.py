"""A training step captured once as a CUDA graph and replayed: the host says one word instead of a thousand."""

import gc
from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3
"""Steps that run as they are before one is captured: libraries choose their algorithms, buffers are made."""


class Graphed:
    """A step that is a function of the tensors ``index`` and ``epoch`` alone, and changes others in place.

    All its work must be of the device: no number may come back to the host, and no tensor that is kept may be
    replaced. The steps before the capture are real ones.
    """

    def __init__(self, work: Callable[[Tensor, Tensor], None], device: torch.device) -> None:
        self.work, self.device = work, device
        self.seen = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.index = self.epoch = torch.empty(0)
        self.aside = torch.cuda.Stream(device)

    def __call__(self, index: Tensor, epoch: Tensor) -> None:
        """One step."""
        if self.graph is not None:
            self.index.copy_(index)
            self.epoch.copy_(epoch)
            self.graph.replay()
        elif self.seen < WARM_UP:
            self._aside(index, epoch)
        else:
            self._capture(index, epoch)
        self.seen += 1

    def _aside(self, index: Tensor, epoch: Tensor) -> None:
        """A step on a stream of its own, as capturing asks for of the steps before it."""
        self.aside.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.aside):
            self.work(index, epoch)
        torch.cuda.current_stream(self.device).wait_stream(self.aside)

    def _capture(self, index: Tensor, epoch: Tensor) -> None:
        self.index, self.epoch = index.clone(), epoch.clone()
        graph = torch.cuda.CUDAGraph()
        gc.collect()  # graphs of earlier trainings are not to be freed in the midst of this one's capture
        torch.cuda.synchronize(self.device)
        # PyTorch's own stream for captures is the first device's, on which nothing of another's would be recorded.
        with (
            torch.cuda.device(self.device),
            torch.cuda.graph(graph, stream=self.aside, capture_error_mode="thread_local"),  # records, and runs nothing
        ):
            self.work(self.index, self.epoch)
        self.graph = graph
        graph.replay()
