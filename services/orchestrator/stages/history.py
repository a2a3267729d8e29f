"""The recent input of a stage's stream: what a checkpoint lacks, and what a cold start needs."""

from __future__ import annotations

from collections import deque
from copy import deepcopy
from typing import Generic, NamedTuple

from talkingface.contract.rates import MOTION_FPS
from talkingface.contract.stage_streams import StreamConfig, StreamRequest, StreamResponse
from talkingface.orchestrator.stages.methods import StageMethod


class SentRequest(NamedTuple, Generic[StreamRequest]):
    """A request, and the input items that were consumed before it."""

    before: int
    request: StreamRequest


class InputHistory(Generic[StreamConfig, StreamRequest, StreamResponse]):
    """The requests of a stream since its last checkpoint, and some seconds before it.

    A checkpoint belongs to one build of a stage. Where only other builds serve, the stream starts
    there without it: some seconds earlier, so that the stage has settled by the time that its
    results are used again.
    """

    def __init__(
        self,
        method: StageMethod[StreamConfig, StreamRequest, StreamResponse],
        config: StreamConfig,
        consumed: int,
        warm_up: float,
    ) -> None:
        """
        :param config: configuration of the stream.
        :param consumed: input items that its checkpoint contains.
        :param warm_up: seconds of input to keep from before the checkpoint.
        """
        self._method = method
        self._cold_config = deepcopy(config)
        self._cold_config.ClearField("resume")
        self._warm_up = round(warm_up * method.input_rate)  # items
        self._contained: deque[SentRequest[StreamRequest]] = deque()
        self._pending: deque[SentRequest[StreamRequest]] = deque()
        self._effective_later: list[StreamRequest] = []
        self._to_skip = 0  # input items before the first motion frame of a cold start
        self.consumed = consumed
        """Input items of all requests."""

    @property
    def pending(self) -> list[StreamRequest]:
        """The requests that the last checkpoint does not contain."""
        return [sent.request for sent in self._pending]

    def add(self, request: StreamRequest) -> StreamRequest | None:
        """Add a request, and return what is to be sent of it.

        That is less than the request, or nothing, only where a cold start lies within it.
        """
        before = self.consumed
        self.consumed = self._method.consumed(request, before)
        size = self.consumed - before
        skipped = min(self._to_skip, size)
        self._to_skip -= skipped
        if skipped and skipped == size:
            return None
        if skipped:
            request = self._method.without_first(request, skipped)
        self._pending.append(SentRequest(before + skipped, request))
        return request

    def checkpoint(self, messages: int) -> tuple[list[StreamRequest], int]:
        """Note that a checkpoint contains so many of the pending requests.

        :return: these requests, and the input items that the checkpoint contains.
        """
        contained = [self._pending.popleft() for _ in range(messages)]
        self._contained.extend(contained)
        consumed = self._pending[0].before if self._pending else self.consumed
        self._forget_before(consumed - self._warm_up)
        return [sent.request for sent in contained], consumed

    def cold_start(
        self,
    ) -> tuple[StreamConfig, InputHistory[StreamConfig, StreamRequest, StreamResponse]]:
        """Return the configuration of a cold start, and its history, of which all is pending.

        The stream starts at the first motion frame for which all input is kept.
        """
        rate = self._method.input_rate
        sent = [*self._contained, *self._pending]
        first = sent[0].before if sent else self.consumed
        frame = -(-first * MOTION_FPS // rate)
        config = deepcopy(self._cold_config)
        config.start_frame = frame
        history = InputHistory(self._method, config, first, self._warm_up / rate)
        history._to_skip = frame * rate // MOTION_FPS - first
        for request in (*self._effective_later, *(one.request for one in sent)):
            history.add(request)
        return config, history

    def _forget_before(self, item: int) -> None:
        while self._contained and self._end_of_first() <= item:
            before, request = self._contained.popleft()
            frame = before * MOTION_FPS // self._method.input_rate
            if not self._method.forget(self._cold_config, request, frame):
                self._effective_later.append(request)
        frame = item * MOTION_FPS // self._method.input_rate
        self._effective_later = [
            request
            for request in self._effective_later
            if not self._method.forget(self._cold_config, request, frame)
        ]

    def _end_of_first(self) -> int:
        before, request = self._contained[0]
        return self._method.consumed(request, before)
