"""A catalog of two models: one that leaves removals to another one, which paints in one call."""

CATALOG = """
[models.first]
family = "sd"
source = "/models/first"

[models.first.tasks.remove]
model = "lama"

[models.lama]
family = "feedforward"
source = "/models/lama.pt"
convention = "lama"
allow_pickle = true
"""
