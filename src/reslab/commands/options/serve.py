"""``reslab serve``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclopts import Parameter

from reslab.commands.options.common import (
    GIVEN,
    Batch,
    Command,
    Device,
    Given,
    NetOfWeights,
    Outputs,
    Runtime,
    Threads,
    WeightsOrArtefact,
    WhichWeights,
    positional,
)


@positional
@dataclass(frozen=True)
class Options(Command):
    """Answer over HTTP what images show, with a page to try it at the address that is printed.

    On this machine: `reslab serve runs/mine`

    For others, with a token: `reslab serve runs/mine --host 0.0.0.0 --token-file token.txt`

    One image: `curl -F image=@holiday.jpg http://127.0.0.1:8000/v1/predict`

    The OpenAPI is at /openapi.json, figures for Prometheus at /metrics, KServe's protocol at /v2. The log has a line
    of JSON for each request, on standard error. SIGTERM and Ctrl-C end it when all that was asked is answered.
    """

    runs: ClassVar = "reslab.commands.serve:run"

    weights: WeightsOrArtefact
    _: KW_ONLY
    host: str = "127.0.0.1"
    """Listen at this address; 0.0.0.0 is all of this machine's."""
    port: int = 8000
    """Listen at this port; 0 is any that is free."""
    token_file: Path | None = None
    """Ask every request for the token in this file (Authorization: Bearer TOKEN)."""
    json: Annotated[bool, Parameter(help="Print the address as JSON; a failure too is one object, `error`.")] = False
    deadline: float = 10.0
    """Answer within so many seconds or not at all: 429, and when to ask again."""
    queue: int = 256
    """Images that are decoded, wait or are computed at a time; more are answered 429."""
    linger: float = 0.0
    """Milliseconds that an image waits for others to be computed with; those that come together go together anyway."""
    max_bytes: int = 20_000_000
    """Bytes of a request, at most."""
    max_images: int = 32
    """Images of a request, at most."""
    max_pixels: int = 50_000_000
    """Pixels of an image, at most."""
    decode_seconds: float = 1.0
    """Seconds of the processor that decoding an image may take."""
    decoders: int | None = None
    """Processes that decode images; by default one for every two cores."""
    net: NetOfWeights = None
    which: WhichWeights = None
    outputs: Outputs = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    oriented: Annotated[
        bool | None,
        Parameter(
            name="--orient",
            negative="--no-orient",
            help="Turn photographs upright as their camera notes (EXIF); by default done unless the weights say "
            "otherwise.",
        ),
    ] = None
    batch: Batch = 32
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """bf16 is faster where the hardware has it."""
    runtime: Runtime = None
    device: Device = None
    threads: Threads = None

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}
