"""How sure the model is of the right answer: a number for each example."""

from collections.abc import Mapping

from torch import Tensor

from taskcluster import Measure, Metric, Observation

MARGIN = Metric("margin", "margin", label="Margin of the right answer", axis="logits", by_layer=False, by_example=True)


def margins(logits: Tensor, right: Tensor) -> Tensor:
    """The logit of the right token (E,) less the largest of the others, given logits (E, V): above 0 where the model
    answers right."""
    of_right = logits.gather(1, right[:, None])
    others = logits.scatter(1, right[:, None], -float("inf"))
    return of_right.squeeze(1) - others.amax(1)


class Margin(Measure):
    metrics = (MARGIN,)
    positions = ("answer",)

    def measure(self, observation: Observation) -> Mapping[Metric, Tensor]:
        right = observation.prompts.answers
        assert right is not None  # tasks have answers
        return {MARGIN: margins(observation.logits("answer"), right)}
