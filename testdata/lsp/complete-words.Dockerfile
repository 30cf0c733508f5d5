# ‸
# check=skip=‸
ARG GLOBAL=1
FROM alpine:$‸ AS one
FROM ‸
FROM one AS two
r‸
RU‸
RUN --‸
RUN --mount=‸
RUN --mount=type=‸
RUN --mount=type=cache,sh‸
RUN --mount=type=cache,sharing=‸
RUN --mount=from=‸,target=/x true
RUN --network=‸
COPY --from=‸ a b
COPY s‸
COPY src/‸ x
ONBUILD ‸
ARG ‸
HEALTHCHECK ‸
