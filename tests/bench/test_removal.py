"""A model of another catalog in ``python -m bench.removal``."""

from pathlib import Path

import numpy as np

from bench.removal import SIZE_PX, pasted, shows_something_new
from bench.worker_fill import worker_fill
from tests.worker import painters


def test_a_model_of_another_catalog_takes_things_away(tmp_path: Path) -> None:
    painter = painters.save(painters.trained(), tmp_path / "painter.pt")
    catalog = tmp_path / "catalog.toml"
    catalog.write_text(
        f'[models.painter]\nfamily = "feedforward"\nsource = "{painter}"\nconvention = "lama"\nallow_pickle = true\n'
        "size_px = 64\nmax_size_px = 256\n"
    )
    ground, thing = painters.smooth_picture(1, SIZE_PX), np.zeros((SIZE_PX, SIZE_PX, 3), np.uint8)
    removal = pasted(ground, thing, 0, "smooth")
    result = worker_fill("painter", catalog=str(catalog), task="remove")(removal.image, removal.hole)
    assert shows_something_new(removal, removal.image)  # the thing itself
    far = [np.abs(pixels[removal.hole].astype(int) - ground[removal.hole]).mean() for pixels in (removal.image, result)]
    assert far[1] < far[0]
