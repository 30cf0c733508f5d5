ARG BASE=one
FROM alpine AS o‸ne
FROM $BASE AS t‸wo
COPY --from=renamed a b
