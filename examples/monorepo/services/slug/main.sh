# Makes titles fit for addresses.
tr "A-Z" "a-z" | sed "s/[^a-z0-9]\{1,\}/-/g; s/^-//; s/-\$//"
