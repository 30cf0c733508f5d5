ARG V=1 W
FROM alpine:$V AS base
ENV A=1 B=2
LABEL org.x=y
RUN echo a \
    b
FROM base
COPY --from=base a b
USER me
ARG W
