"""The GPU process: one thread that steps a running batch, glued to RQ as a batch session."""
