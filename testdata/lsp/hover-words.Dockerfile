# ‸syntax=docker/dockerfile:1
FROM --plat‸form=linux/amd64 ghcr.io/some‸/thing:1 A‸S base
R‸UN --mount=ty‸pe=cache,tar‸get=/x --network=no‸ne apt-get ‸install curl
COPY --from=b‸ase /a /b
ONBUILD C‸OPY --ch‸own=1 a b
MAINT‸AINER me
