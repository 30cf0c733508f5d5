#!/bin/sh
# Builds one service: build.sh NAME VERSION. Joins the shared functions and the service into one program,
# checks its syntax, runs its own test, and leaves program and manifest in /out.
set -eu
name=$1 version=$2
here=$(dirname "$0")
service=$here/../services/$name
out=${OUT:-/out}
mkdir -p "$out/bin" "$out/manifest"
{
	echo '#!/bin/sh'
	echo "NAME=$name VERSION=$version"
	cat "$here/common.sh" "$service/main.sh"
} > "$out/bin/$name"
chmod 755 "$out/bin/$name"
sh -n "$out/bin/$name"
got=$("$out/bin/$name" < "$service/input")
want=$(cat "$service/expected")
if [ "$got" != "$want" ]; then
	printf 'test of %s failed\n--- got\n%s\n--- want\n%s\n' "$name" "$got" "$want" >&2
	exit 1
fi
sum=$(sha256sum "$out/bin/$name" | cut -d' ' -f1)
printf '%s %s sha256:%s\n' "$name" "$version" "$sum" > "$out/manifest/$name"
