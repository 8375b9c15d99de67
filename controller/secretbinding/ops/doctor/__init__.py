"""`doctor`: facts are gathered (input and output), checks judge them (pure), a report shows what they found."""
