# The longest line of its input.
awk "length(\$0) > n { n = length(\$0); l = \$0 } END { print l }"
