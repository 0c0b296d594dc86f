"""What goes into the HTTP interface and what comes out, as its schema says it, with examples."""

import base64
from typing import Annotated, Any

from fastapi import File, Form, UploadFile
from pydantic import BaseModel, Field, WithJsonSchema

from digitsum.prediction import MAX_ADDEND_DIGITS
from digitsum.search import CERTAIN
from digitsum.serving.limits import MAX_BODIES, MAX_BODY, MAX_PICTURES, MAX_REQUESTS, MAX_SECONDS


class Error(BaseModel):
    """Why a request was refused: a code for programs, and a sentence for people."""

    code: str = Field(examples=["invalid"])
    message: str = Field(examples=["addends[0]: input should be a whole number, 0 or more"])


class ErrorResponse(BaseModel):
    """The answer to every request that can't be served."""

    error: Error


class DigitPrediction(BaseModel):
    """What the network says of one digit."""

    digit: int = Field(description="The most probable one, 0 to 9.", examples=[7])
    probability: float = Field(examples=[0.75])
    probabilities: list[float] = Field(
        description="Of the digits 0 to 9.",
        min_length=10,
        max_length=10,
        examples=[[0] * 7 + [0.75, 0, 0.25]],
    )
    place: tuple[int, int] | None = Field(
        description="From which to which column of what the network saw the digit is seen; null where it saw"
        " one digit alone.",
        examples=[(40, 56), None],
    )


class Seen(BaseModel):
    """What the network saw: the row scaled to 32 rows of pixels, or one digit to 28 x 28."""

    height: int = Field(examples=[32])
    width: int = Field(examples=[64])
    pixels: str = Field(
        description="Row by row a byte each, 0 background, 255 ink, in base64.",
        examples=[base64.b64encode(bytes(32 * 64)).decode()],
    )


class Prediction(BaseModel):
    """The number in one picture, of which a single digit is the shortest, and its sum with the addend."""

    number: str = Field(
        description="The most probable number: decimal digits in a string, as it may be larger than what many"
        " languages read exactly from JSON.",
        pattern="^[0-9]+$",
        examples=["42"],
    )
    addend: str = Field(description="Likewise.", pattern="^[0-9]+$", examples=["5"])
    sum: str = Field(
        description="Likewise. For one digit and an addend from 0 to 9 the network's second output; for a"
        " longer number or a larger addend exact arithmetic, the number plus the addend.",
        pattern="^[0-9]+$",
        examples=["47"],
    )
    probability: float = Field(description="Of the number.", examples=[0.75])
    sum_probability: float = Field(
        description="Of the sum: that of the network's second output, or, where the sum is arithmetic, of the"
        " number.",
        examples=[0.75],
    )
    consistent: bool = Field(
        description="Whether the sum is what was read plus the addend. Where both are outputs of the network,"
        " they may contradict each other.",
        examples=[True],
    )
    uncertain: bool = Field(
        description=f"The number or the sum is less probable than {CERTAIN}, they contradict each other,"
        " or there is a doubt: perhaps the picture shows another"
        " number, perhaps none.",
        examples=[True],
    )
    doubt: str | None = Field(
        description="Why it is uncertain, where more is known than the probability.",
        examples=["it shows 3·14: a mark stands between its digits", None],
    )
    sum_probabilities: list[float] | None = Field(
        description="Of the sums 0 to 18, the network's second output; null where the sum is arithmetic.",
        min_length=19,
        max_length=19,
        examples=[[0] * 12 + [0.75, 0, 0.25] + [0] * 4, None],
    )
    digits: list[DigitPrediction] = Field(description="From left to right.", min_length=1)
    seen: Seen


class Predictions(BaseModel):
    """One answer a picture, in the order of the pictures."""

    predictions: list[Prediction]


class Outputs(BaseModel):
    """Both outputs of a network of one digit."""

    digit: list[float] = Field(description="Of the digits 0 to 9.", min_length=10, max_length=10)
    sum: list[float] = Field(description="Of the sums 0 to 18.", min_length=19, max_length=19)


class ConcatOutputs(Outputs):
    """Both outputs of `concat`, and how it comes by the second."""

    joined: list[float] = Field(
        description="What it joins: ten scores of the image, their softmax, and ten numbers of the addend.",
        min_length=30,
        max_length=30,
    )
    terms: list[list[float]] = Field(
        description="Of each sum, what its score is the total of: a weight times each joined number, and the"
        " bias. The softmax of the scores is the second output.",
        min_length=19,
        max_length=19,
    )


class AtWork(BaseModel):
    """What the networks of one digit make of the same picture and addend."""

    exact: Outputs
    concat: ConcatOutputs
    seen: Seen


class About(BaseModel):
    """The network that answers, and the figures of its evaluation."""

    network: str = Field(examples=["exact"])
    parameters: int = Field(examples=[500_000])
    version: str = Field(description="Of the package that exported it.", examples=["0.1.0"])
    figures: dict[str, Any] = Field(examples=[{"joint_accuracy": 0.995}])


class Health(BaseModel):
    """The service answers."""

    status: str = Field(examples=["ok"])


# pydantic's own says it in the words of OpenAPI 3.1, which generators of clients take for text
Upload = Annotated[UploadFile, WithJsonSchema({"type": "string", "format": "binary"})]
Addend = Annotated[str, Field(pattern="^[0-9]+$", max_length=MAX_ADDEND_DIGITS)]
Count = Field(min_length=1, max_length=MAX_PICTURES)
Pictures = Annotated[
    list[Upload],
    Count,
    File(description="PNG, JPEG, GIF, BMP, TIFF or WEBP, each of one digit, or of several in a row."),
]
Picture = Annotated[Upload, File(description="As those of /predict, of one digit.")]
OneAddend = Annotated[int, Form(ge=0, le=9, examples=[3])]
Addends = Annotated[
    list[Addend],
    Count,
    Form(
        description=f"A whole number of at most {MAX_ADDEND_DIGITS} digits for each picture, or one for all.",
        examples=[["1200"]],
    ),
]

ERROR_RESPONSES: dict[int | str, dict[str, Any]] = {
    400: {"model": ErrorResponse, "description": "The body isn't a form."},
    408: {"model": ErrorResponse, "description": f"The body didn't arrive in {MAX_SECONDS:g} seconds."},
    413: {"model": ErrorResponse, "description": f"More than {MAX_BODY:,} bytes."},
    421: {
        "model": ErrorResponse,
        "description": "Asked by another name than localhost, which alone it serves.",
    },
    422: {"model": ErrorResponse, "description": "A picture that can't be read, or not an addend."},
    429: {
        "model": ErrorResponse,
        "description": f"More than {MAX_REQUESTS} requests at a time, or of more than {MAX_BODIES:,} bytes.",
    },
    504: {"model": ErrorResponse, "description": f"No answer in {MAX_SECONDS:g} seconds."},
}
