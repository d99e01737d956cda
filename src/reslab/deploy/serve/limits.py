"""What a stranger may cost, as one value."""

from pydantic import BaseModel, ConfigDict, Field


class Limits(BaseModel):
    """Each holds whatever is sent; what exceeds it is answered with a status of 400 to 429."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    bytes: int = Field(20_000_000, ge=1, description="of a request's body: 413")
    bytes_at_a_time: int = Field(256_000_000, ge=1, description="of all bodies that are being received: 429")
    images: int = Field(32, ge=1, description="of a request: 413")
    pixels: int = Field(50_000_000, ge=1, description="of an image: 413")
    decode_seconds: float = Field(1.0, gt=0, description="of the processor's time, an image: 422")
    receive_seconds: float = Field(20.0, gt=0, description="until the body is there: 408")
    places: int = Field(256, ge=1, description="images that are decoded, wait or are computed: 429")
    patience: float = Field(10.0, gt=0, description="seconds from the body to the answer: 429")
