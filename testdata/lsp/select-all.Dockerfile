FROM alpine AS a
RUN --mount=type=cache,target=/x echo $‸HOME \
    b
COPY ‸a b
