# The sha256 of its input.
sha256sum | cut -d" " -f1
