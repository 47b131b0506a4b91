# SPDX-License-Identifier: Apache-2.0
"""The networks once more, under the names of the published checkpoints (sheet, 3 and 7)."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional


class Conv(nn.Module):
    """Convolutions of 3x3 with norms, below `conv`."""

    def __init__(self, channels: int, out: int, count: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for entered in (channels, out)[:count]:
            layers += [nn.Conv2d(entered, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
        self.conv = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.conv(x)


class Up(nn.Module):
    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.up = nn.Sequential(nn.Identity(), *Conv(channels, out, 1).conv)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.up(functional.interpolate(x, scale_factor=2, mode='nearest'))


class Attention(nn.Module):
    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        for name, entered, out in (('W_g', channels, inner), ('W_x', channels, inner),
                                   ('psi', inner, 1)):
            setattr(self, name, nn.Sequential(nn.Conv2d(entered, out, 1), nn.BatchNorm2d(out)))

    def forward(self, g: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return x * self.psi(functional.relu(self.W_g(g) + self.W_x(x))).sigmoid()


class Unet(nn.Module):
    """Decoder of any of them: from `deepest` channels over `skips`, the lowest first."""

    def build_decoder(self, deepest: int, skips: list[int]) -> None:
        for number, skip in zip(range(len(skips) + 1, 1, -1), skips):
            setattr(self, f'Up{number}', Up(deepest, skip))
            setattr(self, f'Att{number}', Attention(skip, skip // 2))
            setattr(self, f'Up_conv{number}', Conv(2 * skip, skip))
            deepest = skip

    def decode(self, maps: list[torch.Tensor]) -> torch.Tensor:
        x = maps[-1]
        for number in range(len(maps), 1, -1):
            x = getattr(self, f'Up{number}')(x)
            gated = getattr(self, f'Att{number}')(x, maps[number - 2])
            x = getattr(self, f'Up_conv{number}')(torch.cat((gated, x), dim=1))
        return x

    def encode(self, x: torch.Tensor, names: list[str]) -> list[torch.Tensor]:
        maps: list[torch.Tensor] = []
        for name in names:
            x = getattr(self, name)(functional.max_pool2d(x, 2, 2) if maps else x)
            maps.append(x)
        return maps


class AUNet(Unet):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        sizes = [width, 2 * width, 4 * width, 8 * width]
        for number, out in enumerate(sizes, start=1):
            setattr(self, f'Conv{number}', Conv(channels, out))
            channels = out
        self.build_decoder(sizes[3], sizes[2::-1])
        self.Conv_1x1 = nn.Module()
        self.Conv_1x1.conv = nn.Sequential(nn.Conv2d(width, 6, 1), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.Conv_1x1.conv(self.decode(self.encode(x, [f'Conv{n}' for n in (1, 2, 3, 4)])))


class DualNet(Unet):
    def __init__(self, width: int) -> None:
        super().__init__()
        sizes = [width // 2, width, 2 * width, 4 * width, 8 * width]
        for side, channels in ((1, 3), (2, 6)):
            for number, out in enumerate(sizes, start=1):
                setattr(self, f'Conv{number}_{side}', Conv(channels, out))
                channels = out
        self.build_decoder(2 * sizes[4], [2 * out for out in sizes[3::-1]])
        self.Conv_1x1 = nn.Conv2d(width, 3, 1)

    def forward(self, image: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        both = [self.encode(x, [f'Conv{n}_{side}' for n in range(1, 6)])
                for side, x in ((1, image), (2, normals))]
        x = self.Conv_1x1(self.decode([torch.cat(maps, 1) for maps in zip(*both)]))
        return torch.cat([x[:, :2].clamp(0, 6), x[:, 2:].sigmoid()], 1)


class Refine(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        for number, channels in ((1, 2), (2, width), (3, width)):
            setattr(self, f'depth{number}', Up(channels, width // 2))
            setattr(self, f'normal{number}', Conv(6, width // 2, 1))
            setattr(self, f'merge{number}_1', Conv(width, width))
        for number in (1, 2):
            last = nn.Module()
            last.conv = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU())
            setattr(self, f'merge{number}_2', last)
        self.merge3_2 = nn.Conv2d(width, 3, 1)

    def forward(self, x: torch.Tensor, normals: torch.Tensor) -> torch.Tensor:
        pyramid = (normals[..., 1::4, 1::4], normals[..., ::2, ::2], normals)
        for number, seen in enumerate(pyramid, start=1):
            both = [getattr(self, f'depth{number}')(x), getattr(self, f'normal{number}')(seen)]
            x = getattr(self, f'merge{number}_1')(torch.cat(both, 1))
            x = self.merge3_2(x) if number == 3 else getattr(self, f'merge{number}_2').conv(x)
        return torch.cat([x[:, :2].clamp(0, 6), x[:, 2:].sigmoid()], 1)


class Published(nn.Module):
    """All of them; 64 is the published width."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        for part in ('face', 'upper', 'arm', 'leg', 'shoe'):
            setattr(self, f'img2normal_{part}', AUNet(6, width))
        self.img2normal_down = AUNet(3, width)
        self.ImgNorm_to_Dep = DualNet(width)
        self.refine = Refine(width)
