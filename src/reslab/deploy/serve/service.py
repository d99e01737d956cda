"""A model at work for many: admitted, decoded, gathered into batches, answered, all in time."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image

from reslab.data.decode.modes import pixels_of
from reslab.data.decode.whole import fitted_image
from reslab.deploy.serve.batching import Batcher, Closing
from reslab.deploy.serve.decoders import Decoders
from reslab.deploy.serve.decoding import How, Pixels
from reslab.deploy.serve.limits import Limits
from reslab.deploy.serve.line import Admission, Busy
from reslab.deploy.serve.metrics import Metrics
from reslab.deploy.serve.model import Detecting, Explaining, Found, Model, Probabilities
from reslab.deploy.serve.refusals import Refused

Out = TypeVar("Out")
MOST_HELD = 256 * 2**20
"""Bytes of pixels that wait or are computed, beyond which decoding pauses."""
Heat = tuple[Probabilities, int, bytes]
"""Probabilities, the output, and a PNG of where it was seen."""


class Service:
    """To be made anywhere; started, used and closed in one event loop."""

    def __init__(
        self, model: Model | Detecting, limits: Limits, *, batch: int = 32, linger: float = 0.0, decoders: int = 1
    ) -> None:
        self.model, self.limits, self.batch, self.linger = model, limits, batch, linger
        self.ready = False
        self.metrics = Metrics()
        self.admission = Admission(limits.places)
        how = model.how.model_copy(update={"most_pixels": limits.pixels, "seconds": limits.decode_seconds})
        self.decoders = Decoders(how, decoders)
        self._held = 0
        self._room = asyncio.Event()
        self._decoding = asyncio.Semaphore(decoders)
        self._watch()

    @property
    def detects(self) -> bool:
        """Whether the model finds boxes, and says no probabilities of whole images."""
        return isinstance(self.model, Detecting)

    @property
    def explains(self) -> bool:
        """Whether the model can say where it looked."""
        return isinstance(self.model, Explaining)

    @property
    def how(self) -> How:
        """How a file becomes pixels."""
        return self.decoders.how

    async def start(self) -> None:
        """Starts decoders, while the network computes its first image. Raises `InputError`."""
        thread = ThreadPoolExecutor(1, thread_name_prefix="reslab-network")
        model = self.model
        compute: Callable[[Sequence[Pixels]], Sequence[Any]]
        compute = model.detect if isinstance(model, Detecting) else model.probabilities
        self._network: Batcher[Pixels, Any] = Batcher(
            compute, batch=self.batch, linger=self.linger, told=self._computed, thread=thread
        )
        self._heats: Batcher[tuple[Pixels, int | None], Heat] = Batcher(
            self._heat, batch=1, told=self._computed, thread=thread
        )
        crop = self.how.crop or (224, 224)
        image = np.zeros((*crop, self.how.channels), np.uint8)
        first = asyncio.get_running_loop().run_in_executor(thread, compute, [image])
        await asyncio.gather(self.decoders.start(), first)
        self.ready = True

    async def close(self) -> None:
        """Answers what is inside, and ends."""
        self.ready = False
        await self._network.close()
        await self._heats.close()
        await self.decoders.close()

    def look(self) -> None:
        """Raises `Busy` or `Closing` where an image would not be let in, before its bytes have come."""
        if not self.ready:
            raise Closing
        self.admission.look(1, self.limits.patience)

    async def predict(self, files: Sequence[bytes], until: float) -> list[Probabilities | Refused]:
        """The probabilities of each image, or why it has none. Raises `Busy` and `Closing`."""
        return cast("list[Probabilities | Refused]", await self._each(files, until))

    async def detect(self, files: Sequence[bytes], until: float) -> list[Found | Refused]:
        """The boxes in each image, or why there are none to tell. Raises `Busy` and `Closing`."""
        return cast("list[Found | Refused]", await self._each(files, until))

    async def _each(self, files: Sequence[bytes], until: float) -> list[Any]:
        async with self._inside(len(files), until):
            return await _all([self._one(data, until) for data in files])

    async def predict_pixels(self, images: Sequence[Pixels], until: float) -> list[Probabilities]:
        """Of images that are decoded already, (H, W, C) each. Raises `Busy` and `Closing`."""
        async with self._inside(len(images), until):
            fitted = [await asyncio.to_thread(self._fitted, each) for each in images]
            return await _all([self._network(each, until) for each in fitted])

    async def explain(self, data: bytes, output: int | None, until: float) -> Heat:
        """Where a class was seen in an image. Raises `Refused`, `Busy` and `Closing`."""
        async with self._inside(1, until), self._pixels(data) as pixels:
            return await self._heats((pixels, output), until)

    @asynccontextmanager
    async def _inside(self, count: int, until: float) -> AsyncIterator[None]:
        if not self.ready:
            raise Closing
        now = time.monotonic()
        self.admission.enter(count, now, until - now)
        try:
            async with asyncio.timeout(until - now):
                yield
            if time.monotonic() > until:  # where the processor is short of time, alarms are late, too
                raise TimeoutError
        except TimeoutError:
            raise Busy("the time for an answer is over", 1.0) from None
        finally:
            self.admission.leave(count)

    async def _one(self, data: bytes, until: float) -> Any:
        try:
            async with self._pixels(data) as pixels:
                return await self._network(pixels, until)
        except Refused as why:
            return why

    async def _decoded(self, data: bytes) -> Pixels:
        began = time.monotonic()
        pixels = await self.decoders(data)
        self.metrics.decode.observe(time.monotonic() - began)
        return pixels

    @asynccontextmanager
    async def _pixels(self, data: bytes) -> AsyncIterator[Pixels]:
        """The pixels of an image, which are held in memory until the block is left: those of photographs are many.

        Nothing more is decoded while there are too many.
        """
        async with self._decoding:  # or all that waited would pass at once, before the first of them is counted
            while self._held >= MOST_HELD:
                self._room.clear()
                await self._room.wait()
            pixels = await self._decoded(data)
            self._held += pixels.nbytes
        try:
            yield pixels
        finally:
            self._held -= pixels.nbytes
            self._room.set()

    def _fitted(self, pixels: Pixels) -> Pixels:
        fit = self.how.fit
        if fit is None:
            return pixels
        flat = pixels[:, :, 0] if pixels.shape[2] == 1 else pixels
        return pixels_of(fitted_image(Image.fromarray(flat), fit))

    def _heat(self, asked: Sequence[tuple[Pixels, int | None]]) -> Sequence[Heat]:
        assert isinstance(self.model, Explaining)
        return [self.model.heat(pixels, output) for pixels, output in asked]

    def _computed(self, count: int, seconds: float) -> None:
        self.admission.answered(count, time.monotonic())
        self.metrics.computed(count, seconds)

    def _watch(self) -> None:
        watch = self.metrics.watch
        watch("reslab_inside_images", "Images decoded, waiting or computed.", lambda: self.admission.inside)
        watch("reslab_ready", "1: takes requests.", lambda: int(self.ready))
        watch("reslab_pace_seconds", "Seconds an image took of late.", lambda: self.admission.pace)
        watch("reslab_decoders_replaced", "Decoders that an image has ended.", lambda: self.decoders.replaced)


async def _all(work: Sequence[Coroutine[Any, Any, Out]]) -> list[Out]:
    """The results of all; where one fails the others are given up."""
    tasks = [asyncio.ensure_future(each) for each in work]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
