"""The ``infill`` command: starts Redis, the API and workers as processes, watches over them and stops them in order.

It imports ``jobs`` only. The API and the workers are other processes, so this package needs neither torch nor FastAPI.
"""
