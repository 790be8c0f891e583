"""Do the tests notice wrong code? Each mutant is one wrong line that the tests beside it must fail on: ``make mutants``."""
