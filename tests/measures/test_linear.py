"""Linear classifiers: scikit-learn's RidgeClassifier in closed form."""

import pytest
import torch
from sklearn.linear_model import RidgeClassifier

from taskcluster.measures.linear import Ridge

RANDOM = torch.Generator().manual_seed(0)
LABELS, OTHERS = torch.randint(7, (200,), generator=RANDOM), torch.randint(7, (150,), generator=RANDOM)
CENTRES = torch.randn(7, 400, generator=RANDOM).double()


def states(labels: torch.Tensor, width: int) -> torch.Tensor:
    return 3 + 0.4 * CENTRES[labels, :width] + torch.randn(len(labels), width, generator=RANDOM).double()


@pytest.mark.parametrize("n_classes", [2, 7])
@pytest.mark.parametrize("width", [5, 40, 400])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_predictions_are_those_of_scikit_learn(n_classes: int, width: int, scale: float) -> None:
    labels, tested = LABELS % n_classes, states(OTHERS % n_classes, width) * scale
    known = states(labels, width) * scale
    unit = float((known - known.mean(0)).square().mean().sqrt())
    peer = RidgeClassifier(alpha=0.05 * len(labels)).fit((known - known.mean(0)) / unit, labels)
    predicted = torch.as_tensor(peer.predict((tested - known.mean(0)) / unit))
    assert Ridge(known, 0.05).fit(labels, n_classes).right(tested, predicted).all()


def test_a_class_without_states_is_never_predicted() -> None:
    known = states(LABELS % 2, 5)
    probe = Ridge(known, 0.05).fit(LABELS % 2 * 4, 7)
    for absent in (1, 2, 3, 5, 6):
        assert not probe.right(known, torch.full_like(LABELS, absent)).any()


def test_constant_states_are_all_of_the_largest_class() -> None:
    labels = (torch.arange(200) < 50).long()
    assert Ridge(torch.ones(200, 4).double(), 0.01).fit(labels, 2).right(torch.ones(9, 4).double(), labels[-9:]).all()
