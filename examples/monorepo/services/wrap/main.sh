# Folds lines at 20 columns.
fold -s -w 20 | sed "s/ *\$//"
