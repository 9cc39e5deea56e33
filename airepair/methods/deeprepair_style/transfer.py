"""Style transfer that needs no pretrained network: an image keeps its content and takes the colours
and textures of a reference.

wavelet   Whitening and colouring of the channels in every subband of a Haar wavelet decomposition:
          WCT2 (Yoo et al., ICCV 2019) with the pixels themselves in place of VGG's features.
          Subbands are matched in mean and covariance, and the transform is inverted exactly.
fourier   The amplitude of the lowest frequencies is the reference's, all phases stay (Yang and
          Soatto, "FDA", CVPR 2020).
encoder   A user's own network: an object with `encode(x) -> features` (N x D x h x w) and
          `decode(features) -> images`; whitening and colouring happens on its features.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from airepair.errors import UsageError
from airepair.registry import Registry

# stylised = transfer(content, style), both N x C x H x W in [0, 1]
StyleTransfer = Callable[[Tensor, Tensor], Tensor]
EPSILON = 1e-4  # added to variances: a subband that is flat in the content is not blown up


def coloured(content: Tensor, style: Tensor) -> Tensor:
    """Returns content (N x C x h x w) with the channel means and covariances of style (N x C x h' x
    w'): whitening and colouring.
    """
    n, c, h, w = content.shape
    flat, other = content.flatten(2), style.flatten(2)
    mean, target = flat.mean(2, keepdim=True), other.mean(2, keepdim=True)
    whiten, colour = _root(flat - mean, -0.5), _root(other - target, 0.5)
    moved: Tensor = colour @ (whiten @ (flat - mean)) + target
    return moved.reshape(n, c, h, w)


def _root(centred: Tensor, power: float) -> Tensor:
    """The covariance of N x C x P, plus epsilon, to a power (N x C x C)."""
    eye = torch.eye(centred.shape[1], device=centred.device, dtype=centred.dtype)
    covariance = centred @ centred.transpose(1, 2) / centred.shape[2] + EPSILON * eye
    values, vectors = torch.linalg.eigh(covariance)
    found: Tensor = (vectors * values.clamp_min(EPSILON)[:, None, :] ** power) @ vectors.transpose(1, 2)
    return found


def haar(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Returns the low, horizontal, vertical and diagonal subbands of images with even sides, each
    of half the size.
    """
    a, b, c, d = x[:, :, ::2, ::2], x[:, :, ::2, 1::2], x[:, :, 1::2, ::2], x[:, :, 1::2, 1::2]
    return (a + b + c + d) / 2, (a - b + c - d) / 2, (a + b - c - d) / 2, (a - b - c + d) / 2


def unhaar(low: Tensor, horizontal: Tensor, vertical: Tensor, diagonal: Tensor) -> Tensor:
    """Returns the images of four subbands: the inverse of `haar`."""
    a, b = (low + horizontal + vertical + diagonal) / 2, (low - horizontal + vertical - diagonal) / 2
    c, d = (low + horizontal - vertical - diagonal) / 2, (low - horizontal - vertical + diagonal) / 2
    n, k, h, w = low.shape
    return torch.stack([torch.stack([a, b], -1), torch.stack([c, d], -1)], 3).reshape(n, k, 2 * h, 2 * w)


def wavelet(content: Tensor, style: Tensor, levels: int = 2) -> Tensor:
    """Returns the content, subband by subband `coloured`, over `levels` levels (fewer if a side is
    odd or too small).
    """
    h, w = content.shape[2:]
    if not levels or h % 2 or w % 2 or min(h, w) < 4:
        return coloured(content, style)
    low, *details = haar(content)
    style_low, *style_details = haar(style)
    return unhaar(
        wavelet(low, style_low, levels - 1),
        *[coloured(d, s) for d, s in zip(details, style_details, strict=True)],
    )


def fourier(content: Tensor, style: Tensor, share: float = 0.1) -> Tensor:
    """Returns the amplitude of frequencies up to `share` of the sampling rate (the mean among them)
    from the style, the rest from the content.
    """
    h, w = content.shape[2:]
    spectrum, other = torch.fft.fft2(content), torch.fft.fft2(style)
    low = (torch.fft.fftfreq(h).abs()[:, None] <= share) & (torch.fft.fftfreq(w).abs()[None, :] <= share)
    amplitude = torch.where(low.to(content.device), other.abs(), spectrum.abs())
    image: Tensor = torch.fft.ifft2(torch.polar(amplitude, spectrum.angle())).real
    return image


def encoded(encoder: Any) -> StyleTransfer:
    """Returns whitening and colouring on the features of a user's encoder and decoder."""

    @torch.no_grad()
    def transfer(content: Tensor, style: Tensor) -> Tensor:
        images: Tensor = encoder.decode(coloured(encoder.encode(content), encoder.encode(style)))
        return images

    return transfer


def transfer_of(name: str, encoder: str | None, device: torch.device) -> StyleTransfer:
    """Returns the transfer of that name, or by the encoder at `package.module:attribute` (a class
    is called without arguments).
    """
    if encoder is None:
        return {"wavelet": wavelet, "fourier": fourier}[name]
    found = Registry("style encoder", "airepair.encoders", {}).get(encoder)
    found = found() if isinstance(found, type) else found
    if not (hasattr(found, "encode") and hasattr(found, "decode")):
        raise UsageError(f"encoder {encoder!r} has no encode and decode; accepted: an object with both")
    return encoded(found.to(device).eval() if isinstance(found, nn.Module) else found)


def painted(
    x: Tensor, references: Tensor, transfer: StyleTransfer, alpha: float, generator: torch.Generator
) -> Tensor:
    """Returns each image in the style of a reference drawn for it, `alpha` of the way, in [0, 1]."""
    style = references[torch.randint(len(references), (len(x),), generator=generator).to(references.device)]
    return (alpha * transfer(x, style) + (1 - alpha) * x).clamp(0, 1)
