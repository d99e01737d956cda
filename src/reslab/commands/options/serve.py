"""``reslab serve``."""

from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

from cyclopts import Parameter

from reslab.commands.options.common import (
    GIVEN,
    AnsweringPrecision,
    Batch,
    Command,
    Device,
    Given,
    NetOfWeights,
    OrientedAsWeights,
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
    """Serve a classifier or a detector over HTTP, with a web page to try it at the printed address.

    On this machine: `reslab serve runs/mine`

    For others, with a token: `reslab serve runs/mine --host 0.0.0.0 --token-file token.txt`

    One image: `curl -F image=@holiday.jpg http://127.0.0.1:8000/v1/predict`; for a detector, `/v1/detect`

    OpenAPI description at /openapi.json, Prometheus metrics at /metrics, KServe protocol at /v2. Logs one line of JSON
    per request to standard error. SIGTERM and Ctrl-C stop it once all pending requests are answered.
    """

    runs: ClassVar = "reslab.commands.serve:run"

    weights: WeightsOrArtefact
    _: KW_ONLY
    host: str = "127.0.0.1"
    """Listen on this address; 0.0.0.0 listens on all of this machine's."""
    port: int = 8000
    """Listen on this port; 0 picks a free one."""
    token_file: Path | None = None
    """Require the token in this file from every request (Authorization: Bearer TOKEN)."""
    json: Annotated[
        bool, Parameter(help="Print the address as JSON; errors too, as an object with the key `error`.")
    ] = False
    deadline: float = 10.0
    """Seconds within which a request must be answered; otherwise it is rejected with status 429 and a time to retry
    after."""
    queue: int = 256
    """Maximum number of images being decoded, waiting or computed; more are rejected with status 429."""
    linger: float = 0.0
    """Milliseconds that an image waits to be batched with later ones; images that arrive together are always
    batched."""
    max_bytes: int = 20_000_000
    """Maximum size of a request in bytes."""
    max_images: int = 32
    """Maximum number of images in a request."""
    max_pixels: int = 50_000_000
    """Maximum number of pixels in an image."""
    decode_seconds: float = 1.0
    """CPU seconds that decoding one image may take."""
    decoders: int | None = None
    """Processes that decode images; by default one per two cores."""
    net: NetOfWeights = None
    which: WhichWeights = None
    outputs: Outputs = None
    given: Annotated[Given, Parameter(name="*")] = GIVEN
    oriented: OrientedAsWeights = None
    batch: Batch = 32
    precision: AnsweringPrecision = "fp32"
    runtime: Runtime = None
    device: Device = None
    threads: Threads = None

    def names(self) -> dict[str, Any]:
        """What may be misspelt."""
        return {"net": self.net, "weights": [self.weights]}
