"""The ridge is scikit-learn's, its left-out predictions are refits; the probe reads its line."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import make_content
from sklearn.linear_model import Ridge

from omni_msa.files.labels import LabelSpace
from omni_msa.methods import make_method
from omni_msa.methods.ridge import PENALTIES, RidgeOptions, fit_ridge
from omni_msa.modalities import all_subsets
from omni_msa.options import MediaOptions


def draw(num_clips, width, noise=0.1):
    """States of unequal spread and level, and labels that follow a line with noise."""
    torch.manual_seed(5)
    states = torch.randn(num_clips, width) * torch.logspace(-1, 1, width) + torch.randn(width)
    line = torch.randn(width) / states.std(0) / width**0.5
    return states, states @ line + noise * torch.randn(num_clips)


def standardised(states):
    states = states.double()
    return ((states - states.mean(0)) / states.std(0, correction=0)).numpy()


@pytest.mark.parametrize(
    ("num_clips", "width"), [(24, 64), pytest.param(40, 8, marks=pytest.mark.slow), (2, 3)]
)
def test_a_ridge_equals_sklearns_and_leaving_out_equals_refitting(num_clips, width):
    states, labels = draw(num_clips, width)
    x, y = standardised(states), labels.double().numpy()
    fit = fit_ridge(states, labels[:, None])
    whole = Ridge(alpha=fit.penalty).fit(x, y)
    ours = states @ fit.weight[0] + fit.bias
    assert ours.numpy() == pytest.approx(whole.predict(x), abs=1e-3)
    assert (fit.weight[0] * states.std(0, correction=0)).numpy() == pytest.approx(
        whole.coef_, abs=1e-4
    )

    def left_out(penalty):
        kept = [[j for j in range(num_clips) if j != i] for i in range(num_clips)]
        fits = [Ridge(alpha=penalty).fit(x[rows], y[rows]) for rows in kept]
        return [fits[i].predict(x[i : i + 1])[0] for i in range(num_clips)]

    at_one = fit_ridge(states, labels[:, None], [fit.penalty])
    assert at_one.left_out[:, 0].numpy() == pytest.approx(left_out(fit.penalty), abs=1e-3)
    errors = np.array([abs(left_out(p) - y) for p in PENALTIES])  # [P, N]
    best = errors.mean(1).min()
    assert errors[PENALTIES.index(fit.penalty)].mean() == pytest.approx(best, rel=1e-3)
    for i, found in enumerate(abs(fit.left_out[:, 0].numpy() - y)):  # chosen by all other clips
        others = np.delete(errors, i, axis=1).mean(1)
        good = errors[others < others.min() * 1.01 + 1e-6, i]
        assert abs(good - found).min() < 1e-3


def test_a_probe_finds_a_line_and_leaves_alone_what_never_varies():
    states, labels = draw(120, 32)
    states[:, 3] = 0.1
    fit = fit_ridge(states[:80], labels[:80, None])
    unseen = (states[80:] @ fit.weight[0] + fit.bias - labels[80:]).abs().mean()
    guess = (labels[80:] - labels[:80].mean()).abs().mean()
    left_out = (fit.left_out[:, 0] - labels[:80]).abs().mean()
    assert unseen < guess / 3 and left_out < guess / 3
    assert fit.weight[0, 3] == 0
    nothing = fit_ridge(torch.randn(80, 32), torch.randn(80, 1))  # noise is shrunk away
    assert nothing.penalty > 10 * fit.penalty


@torch.inference_mode()
def test_a_fitted_probe_reads_its_line_off_the_last_states(thinker):
    clip = thinker.builder().build(make_content(), MediaOptions())
    subsets = all_subsets(clip.present)
    states = thinker.forward(thinker.batch([clip], [subsets]))[0]
    labels = torch.linspace(-4, 4, 8)
    probe = make_method("probe", thinker, LabelSpace())
    left_out = probe.fit(states, labels)
    fit = fit_ridge(states, labels[:, None])
    torch.testing.assert_close(left_out, fit.left_out[:, 0].clamp(-3, 3), atol=1e-3, rtol=0)
    scores = probe.read(thinker, [clip], [subsets]).scores[0]
    line = states @ fit.weight[0] + fit.bias
    torch.testing.assert_close(scores, line.clamp(-3, 3), atol=1e-3, rtol=0)
    assert probe.options == RidgeOptions(penalty=fit.penalty)


def test_a_probe_of_classes_has_a_line_each_and_takes_the_highest(thinker):
    torch.manual_seed(1)
    labels = torch.arange(60) % 3
    states = torch.randn(60, thinker.width) + 6 * torch.eye(3, thinker.width)[labels]
    probe = make_method("probe", thinker, LabelSpace.of_classes(("sad", "calm", "glad")))
    left_out = probe.fit(states, labels.float())
    assert (left_out == labels).float().mean() > 0.85
    direct = probe.line(states).argmax(-1)
    assert (direct == labels).float().mean() > 0.95
