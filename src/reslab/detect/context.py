"""Global context: each region is judged beside the whole picture (He et al. 2015, arXiv 1512.03385, appendix B)."""

import torch
from torch import Tensor, nn

Pooled = tuple[Tensor, Tensor, list[Tensor]]
"""Regions (R, C, h, w), whole pictures (N, C, h, w), and the boxes of each picture (R_i, 4)."""


class PooledWithContext(nn.Module):
    """Pools the whole picture as one more region; called as torchvision's RoIAlign."""

    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, maps: dict[str, Tensor], boxes: list[Tensor], shapes: list[tuple[int, int]]) -> Pooled:
        """Maps, boxes of each picture (R_i, 4) in its pixels, and its height and width."""
        sides = [torch.stack([torch.as_tensor(width), torch.as_tensor(height)]) for height, width in shapes]
        whole = [torch.cat([torch.zeros_like(each), each])[None].to(boxes[0]) for each in sides]
        return self.pool(maps, boxes, shapes), self.pool(maps, whole, shapes), boxes


class ContextHead(nn.Module):
    """Features of each region, and behind them those of its picture, by the same layers."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, pooled: Pooled) -> Tensor:
        """-> (R, 2 C')."""
        regions, whole, boxes = pooled
        features = self.head(torch.cat([regions, whole]))  # together, for the statistics of BN
        count = regions.shape[0]
        own, context = features[:count], features[count:]
        beside = [context[place].expand(each.shape[0], -1) for place, each in enumerate(boxes)]
        return torch.cat([own, torch.cat(beside)], 1)
