"""The names of models that clients of other services send, and what a catalog makes of them."""

from pathlib import Path

import pytest

from jobs.catalog import Catalog, load_catalog
from jobs.errors import BadModel

MODELS = """
[models.first]
family = "sd"
source = "/models/first"

[models.second]
family = "flux"
source = "/models/second"

[models.dall-e-9]
family = "sdxl"
source = "/models/third"
"""


def catalog_with(folder: Path, aliases: str = "") -> Catalog:
    file = folder / "catalog.toml"
    file.write_text(MODELS + aliases)
    return load_catalog(str(file))


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("gpt-image-1.5", "first"),
        ("chatgpt-image-latest", "first"),
        ("dall-e-2", "first"),
        ("dall-e-9", "dall-e-9"),
        ("second", "second"),
        ("GPT-IMAGE-1", "GPT-IMAGE-1"),
        ("my-gpt-image-1", "my-gpt-image-1"),
    ],
)
def test_without_a_table_the_names_of_openai_mean_the_first_model_and_a_name_of_the_catalog_itself(
    tmp_path: Path, name: str, model: str
) -> None:
    assert catalog_with(tmp_path).resolve_alias(name) == model


def test_a_table_replaces_those_and_the_first_pattern_that_matches_counts(tmp_path: Path) -> None:
    catalog = catalog_with(tmp_path, '[aliases]\n"gpt-image-1" = "second"\n"gpt-*" = "first"\n"second" = "first"\n')
    named = {name: catalog.resolve_alias(name) for name in ("gpt-image-1", "gpt-image-2", "second", "dall-e-2")}
    assert named == {"gpt-image-1": "second", "gpt-image-2": "first", "second": "second", "dall-e-2": "dall-e-2"}


def test_an_empty_table_leaves_the_names_of_the_catalog_alone(tmp_path: Path) -> None:
    assert catalog_with(tmp_path, "[aliases]\n").resolve_alias("dall-e-2") == "dall-e-2"


@pytest.mark.parametrize(
    ("aliases", "said"),
    [
        ('"gpt-*" = "third"', "'gpt-.' stands for 'third', which is no model. Known models: first, second"),
        ("x = 3", "x"),
    ],
)
def test_an_alias_of_no_model_is_refused_by_name_when_the_catalog_is_read(
    tmp_path: Path, aliases: str, said: str
) -> None:
    with pytest.raises(BadModel, match=said):
        catalog_with(tmp_path, f"[aliases]\n{aliases}\n")


def test_a_catalog_without_models_is_refused_before_its_aliases_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "empty.toml").write_text("[models]\n")
    with pytest.raises(BadModel, match="models"):
        load_catalog(str(tmp_path / "empty.toml"))
