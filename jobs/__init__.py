"""What crosses Redis: the schema, the catalog, the errors, the keys, the store and the queue.

Both sides import this package and nothing of each other: ``app -> jobs <- worker``. It needs pydantic, redis and rq.
"""
