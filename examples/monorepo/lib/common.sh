set -eu
die() { echo "$NAME: $*" >&2; exit 1; }
case "${1-}" in
--version) echo "$NAME $VERSION"; exit 0 ;;
esac
