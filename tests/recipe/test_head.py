from __future__ import annotations

import torch

from recipe.head import fit_head
from recipe.latent_space import LatentSpace
from recipe.painter import Painter
from recipe.unet import Source, UnetRecipe
from worker.training.corpus import Corpus
from worker.training.loss import simple_loss


def test_the_fitted_head_is_the_best_there_is_for_the_networks_features(
    painter: Painter, corpus: Corpus, space: LatentSpace
) -> None:
    source = Source.of(corpus, space, UnetRecipe())
    batches = [source.draw(step, 4, 64) for step in range(4)]

    def loss() -> float:
        with torch.no_grad():
            pairs = [(painter.predict(example, texts), example) for example, texts in batches]
        return sum(float(simple_loss(output, example.target, example.weight)) for output, example in pairs)

    begun = loss()
    silent = sum(float(simple_loss(0 * example.target, example.target, example.weight)) for example, _ in batches)
    fit_head(painter, batches)
    fitted = loss()
    assert fitted < min(begun, silent)
    head = painter.unet.conv_out
    for change in (1.02, 0.98):
        with torch.no_grad():
            head.weight.mul_(change)
        assert loss() > 0.999 * fitted
        with torch.no_grad():
            head.weight.div_(change)
