# VERSION of the base image
ARG ‸VERSION=3.20
ARG BARE
FROM alpine:${‸VERSION} AS build
ARG ‸VERSION
ENV NAME=app-$VERSION \
    OTHER=x
RUN echo $NA‸ME "$‸BARE" ${‸UNKNOWN:-x} && for i in a b; do echo $‸i; done
ARG ‸TARGETARCH
CMD echo $‸NAME $‸VERSION
FROM build
WORKDIR /$‸OTHER
