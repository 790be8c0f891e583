"""``make attack``: hostile files and floods against a real stack, beside callers who must not notice."""
