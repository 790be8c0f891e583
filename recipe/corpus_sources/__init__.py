"""Where the training photos come from: Debian packages and one repository, by the list in `photos.csv`."""
