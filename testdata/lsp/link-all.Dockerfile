# syntax=docker/dockerfile:1
ARG R=quay.io
FROM alpine AS a
FROM $R/x/y:1
FROM ghcr.io/x/y
FROM a
FROM scratch
FROM example.com/x
FROM some/one
ADD https://example.com/x.tar.gz $X http://$X /x
