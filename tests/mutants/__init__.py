"""Do the tests notice wrong code? A mutant is a wrong line that the tests beside it must fail on: ``make mutants``."""
