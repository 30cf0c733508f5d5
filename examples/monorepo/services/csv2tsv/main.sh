# Simple CSV (no quotes) to TSV.
while IFS= read -r line; do
	case $line in *\"*) die "quotes are not supported" ;; esac
	printf "%s\n" "$line" | tr , "\t"
done
