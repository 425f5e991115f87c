"""Contact sheets: layout says what goes where, typography how text fits, painting draws; ``sheet`` is the face."""
