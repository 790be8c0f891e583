"""The API of AUTOMATIC1111's and Forge's web UI, as far as it is about inpainting: ``/sdapi/v1``."""
