# build  compiles
FROM alpine AS Bu‸ild
RUN --mount=type=bind,from=build,target=/x true
FROM BUILD AS next
COPY --from=build a b
COPY --from=0 a b
ONBUILD COPY --from=bui‸ld x y
FROM ‸alpine
FROM scratch AS twice
FROM scratch AS ‸twice
