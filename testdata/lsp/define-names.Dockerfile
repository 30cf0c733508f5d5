ARG ‸V=1
FROM alpine:$V AS ‸base
ARG V
RUN echo $‸V
FROM base AS other
RUN echo $‸V
ENV V=2 W=$‸V
RUN --mount=from=‸base,target=/x V=3 && echo $‸V
COPY --from=‸0 a b
COPY --from=‸base a b
ONBUILD RUN echo $‸W
FROM alpine
RUN echo $‸V
