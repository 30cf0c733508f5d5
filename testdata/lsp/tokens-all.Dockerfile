# syntax=docker/dockerfile:1
# text
ARG V=1
FROM --platform=$BUILDPLATFORM alpine:${V} AS base
ENV X=$V Y=é$V
RUN --mount=type=cache,target=/$X \
    # in
    echo "$X" '$X' <<E
$Y
E
ONBUILD COPY --from=base $X /
LABEL a=$X
MAINTAINER x
