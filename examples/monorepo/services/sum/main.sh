# Adds the numbers of its input.
awk "{ s += \$1 } END { print s + 0 }"
