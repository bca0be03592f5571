"""Steps of search on CUDA, each recorded once as a graph and then replayed: one launch in the place of some forty.

A small model's step takes less time on such a device than its launches take in Python. A graph works on the tensors
that it was recorded with, so there is one for each shape of the inputs; these are copied in, and what comes out is
copied before the next replay writes over it.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from threading import Lock
from typing import NamedTuple

import torch
from torch import Tensor

from s2s_cli.model.interface import DecoderState, Memory, Step
from s2s_cli.search.loop import Model

GRAPHS = 64  # kept at once; they share their memory
WORTHWHILE = 4  # steps of one shape before it is recorded, which costs about as much as so many

Record = Callable[[Callable[[], Step]], tuple[Callable[[], None], Step]]
"""Of a step on tensors that stay where they are: what runs it again, and the tensors in which its results appear."""


class _Recorded(NamedTuple):
    inputs: tuple[Tensor, ...]
    replay: Callable[[], None]
    step: Step


class CapturedModel:
    """A model for search whose steps are replayed.

    Args:
        model: its step must ask the device nothing, and its weights must stay where they are.
        record: makes a graph; by default one of CUDA.
        device: the GPU of both: the current one of whichever thread while graphs are recorded and replayed.
    """

    def __init__(self, model: Model, record: Record | None = None, device: torch.device | None = None) -> None:
        self.model, self._device = model, device
        with self._current():
            self._record = record or _CudaRecorder()
        self._seen: Counter[Sequence[torch.Size]] = Counter()
        self._recorded: OrderedDict[Sequence[torch.Size], _Recorded] = OrderedDict()
        self._records = True
        self._turn = Lock()
        self.encode = model.encode

    def step(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        """As the model's. Threads take their turns: all of them copy into the same tensors."""
        with self._turn, self._current():
            return self._replayed(tokens_BQ, state, memory)

    def _current(self) -> AbstractContextManager[object]:
        return torch.cuda.device(self._device) if self._device else nullcontext()

    def _replayed(self, tokens_BQ: Tensor, state: DecoderState, memory: Memory) -> Step:
        inputs = (tokens_BQ, *state.tensors, *memory.tensors)
        shapes = tuple(tensor.shape for tensor in inputs)
        recorded = self._recorded.get(shapes)
        if recorded is None:
            self._seen[shapes] += 1
            if self._seen[shapes] <= WORTHWHILE or not self._records:
                return self.model.step(tokens_BQ, state, memory)
            try:
                recorded = self._recorded[shapes] = self._make(inputs, state, memory)
            except RuntimeError:  # no memory for another, or a driver that cannot: the step itself is as good
                self._records = False
                return self.model.step(tokens_BQ, state, memory)
            if len(self._recorded) > GRAPHS:
                oldest, _ = self._recorded.popitem(last=False)
                del self._seen[oldest]
        self._recorded.move_to_end(shapes)
        for own, given in zip(recorded.inputs, inputs, strict=True):
            own.copy_(given)
        recorded.replay()
        logits_BQV, weights_BQS, after = recorded.step
        return Step(logits_BQV.clone(), weights_BQS.clone(), after.map(Tensor.clone))

    def _make(self, inputs: Sequence[Tensor], state: DecoderState, memory: Memory) -> _Recorded:
        own = tuple(tensor.clone(memory_format=torch.contiguous_format) for tensor in inputs)
        tokens_BQ, rest = own[0], iter(own[1:])
        own_state = state.map(lambda _: next(rest))
        own_memory = memory.of(rest)
        return _Recorded(own, *self._record(lambda: self.model.step(tokens_BQ, own_state, own_memory)))


class _CudaRecorder:
    """Records on a stream of its own after one run to warm up, as PyTorch's notes on CUDA graphs want it.

    `torch.cuda.graph` would give back the memory that training has cached, and stay on its stream after a failure.
    """

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]

    def __call__(self, step: Callable[[], Step]) -> tuple[Callable[[], None], Step]:
        graph = torch.cuda.CUDAGraph()
        torch.cuda.synchronize()
        with torch.cuda.stream(self._stream):
            step()
            torch.cuda.synchronize()
            graph.capture_begin(pool=self._pool)
            try:
                found = step()
            finally:
                graph.capture_end()
        return graph.replay, found
