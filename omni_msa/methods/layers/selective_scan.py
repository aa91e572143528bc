"""The selective scan of Mamba (arXiv 2312.00752), in plain PyTorch and linear in length.

With a state x of N numbers for each of E channels, which starts at zero,

    x_l = exp(delta_l A) x_(l-1) + delta_l u_l B_l,        y_l = C_l x_l,

as in `selective_scan_ref` of state-spaces/mamba: zero-order hold for A, Euler's step for B. What
differs is the order of the work. A block of steps is cut into chunks, whose steps are taken side by
side, all from a state of zero; then the chunks' last states are carried from one to the next; then
all steps are taken again, from where each chunk really begins. No decay is ever divided by, so that
nothing overflows. On a GPU, the kernel of the package `mamba-ssm` is used where it is installed.

Shapes: R rows, L steps, E channels, N numbers of state, M chunks of T steps.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch.nn.functional import pad

CHUNK = 32  # T
BLOCK = 1024  # steps whose states are in memory at once, without gradients


def selective_scan(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """The outputs y [R, L, E], in fp32. A step whose delta is zero leaves the state as it is.

    Args:
        u: inputs [R, L, E].
        delta: step sizes [R, L, E], zero or more.
        a: decay rates [E, N], below zero.
        b: how inputs enter the state [R, L, N].
        c: how the state is read [R, L, N].
    """
    u, delta, a, b, c = (x.float() for x in (u, delta, a, b, c))
    if u.is_cuda and find_spec("mamba_ssm"):
        return _by_kernel(u, delta, a, b, c)
    length = u.shape[1]
    chunk = max(1, min(CHUNK, length))
    filled = [pad(x, (0, 0, 0, -length % chunk)) for x in (u * delta, delta, b, c)]
    state, outputs = u.new_zeros(len(u), *a.shape), []
    for parts in zip(*(x.split(BLOCK, dim=1) for x in filled), strict=True):
        # Step by step side by side: [T, R, M, E or N].
        steps = [x.unflatten(1, (-1, chunk)).permute(2, 0, 1, 3) for x in parts]
        output, state = _scan_block(steps, a, state)
        outputs.append(output)
    return torch.cat(outputs, dim=1)[:, :length]


def _scan_block(
    steps: list[torch.Tensor], a: torch.Tensor, state: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [R, M T, E] and the last state [R, E, N] of chunks that follow a state [R, E, N]."""
    inputs, deltas, b, c = (x.unbind() for x in steps)  # T of [R, M, E] or [R, M, N]
    entering = [u[..., None] * into[..., None, :] for u, into in zip(inputs, b, strict=True)]
    decays = [(delta[..., None] * a).exp() for delta in deltas]
    last = entering[0]
    for enters, decay in zip(entering[1:], decays[1:], strict=True):
        last = torch.addcmul(enters, decay, last)  # [R, M, E, N]
    over_chunk = (steps[1].sum(0)[..., None] * a).exp()
    starts = []
    for own, decay in zip(last.unbind(1), over_chunk.unbind(1), strict=True):
        starts.append(state)
        state = torch.addcmul(own, decay, state)
    x, outputs = torch.stack(starts, dim=1), []
    for enters, decay, read in zip(entering, decays, c, strict=True):
        x = torch.addcmul(enters, decay, x)
        outputs.append((x * read[..., None, :]).sum(-1))
    return torch.stack(outputs).permute(1, 2, 0, 3).flatten(1, 2), state


def _by_kernel(
    u: torch.Tensor, delta: torch.Tensor, a: torch.Tensor, b: torch.Tensor, c: torch.Tensor
) -> torch.Tensor:
    """The same by the CUDA kernel of mamba-ssm, which has time last."""
    from mamba_ssm.ops.selective_scan_interface import selective_scan_fn

    u, delta, b, c = (x.transpose(1, 2).contiguous() for x in (u, delta, b, c))
    return selective_scan_fn(u, delta, a, b, c).transpose(1, 2)
