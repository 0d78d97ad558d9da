"""Next-token prediction, with a weight for each part of the sequence."""

from typing import Annotated

from pydantic import Field

from taskcluster.data.batches import WEIGHTS, Weights
from taskcluster.data.datamodule import SequenceDataModule
from taskcluster.objectives.objective import Objective
from taskcluster.validation import validated

Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class NextToken(Objective):
    """Cross-entropy of the next token.

    Args:
        instruction, x, y: what predicting a token of each part weighs; x includes the text around it that is not of y.
            None for the weight that `data.loss_on` gives.
    """

    needs = ("data",)

    @validated
    def __init__(
        self,
        data: SequenceDataModule,
        instruction: Weight | None,
        x: Weight | None,
        y: Weight | None,
    ) -> None:
        given = zip((instruction, x, y), WEIGHTS[data.loss_on], strict=True)
        self.weights = Weights(*(default if weight is None else weight for weight, default in given))
