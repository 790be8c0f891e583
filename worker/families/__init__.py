"""One file for each network family, all of one shape: ``worker.families.base.Family``."""
