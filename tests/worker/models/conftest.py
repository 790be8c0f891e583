"""For tests of single files."""

import pytest
from diffusers.loaders.single_file_model import SINGLE_FILE_LOADABLE_CLASSES

from tests.worker.published import narrow_converter
from tests.worker.published_sizes import WIDTH


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """diffusers reads single files of FLUX as narrow as the tiny one."""
    known = SINGLE_FILE_LOADABLE_CLASSES["FluxTransformer2DModel"]
    monkeypatch.setitem(known, "checkpoint_mapping_fn", narrow_converter(WIDTH))
