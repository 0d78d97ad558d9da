"""Muon and AdamW as one optimizer: torch's own updates, one schedule, one state."""

import copy

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LinearLR

from taskcluster.models.optimizers import MuonWithAdamW


def parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(size, generator=generator).requires_grad_() for size in ((6, 4), (9, 4), (4,))]


def optimizer(params: list[Tensor]) -> MuonWithAdamW:
    groups = [{"params": [params[0]]}, {"params": [params[1]]}, {"params": [params[2]], "weight_decay": 0.0}]
    return MuonWithAdamW(groups, lr=0.1, momentum=0.9, betas=[0.9, 0.95], weight_decay=0.1)


def descend(params: list[Tensor], step: MuonWithAdamW, n: int) -> None:
    for _ in range(n):
        step.zero_grad()
        sum((p**4).sum() for p in params).backward()
        step.step()


def test_the_first_group_moves_as_with_muon_and_the_others_as_with_adamw() -> None:
    params, muon, adamw = parameters(), parameters(), parameters()
    descend(params, optimizer(params), 3)
    alone = torch.optim.Muon(muon[:1], lr=0.1, weight_decay=0.1, momentum=0.9, adjust_lr_fn="match_rms_adamw")
    descend(muon[:1], alone, 3)
    groups = [{"params": [adamw[1]], "weight_decay": 0.1}, {"params": [adamw[2]], "weight_decay": 0.0}]
    descend(adamw[1:], torch.optim.AdamW(groups, lr=0.1, betas=(0.9, 0.95), fused=True), 3)
    torch.testing.assert_close(params, [muon[0], *adamw[1:]])


def test_a_schedule_reaches_both() -> None:
    params = parameters()
    both = optimizer(params)
    schedule = LinearLR(both, start_factor=1e-9, end_factor=1e-9, total_iters=1)
    before = [p.detach().clone() for p in params]
    descend(params, both, 1)
    schedule.step()
    torch.testing.assert_close(params, before, atol=1e-6, rtol=0)


def test_a_restored_state_continues_to_the_bit() -> None:
    params = parameters()
    both = optimizer(params)
    descend(params, both, 2)
    others = [p.detach().clone().requires_grad_() for p in params]
    restored = optimizer(others)
    restored.load_state_dict(copy.deepcopy(both.state_dict()))
    descend(params, both, 2)
    descend(others, restored, 2)
    torch.testing.assert_close(params, others, atol=0, rtol=0)
