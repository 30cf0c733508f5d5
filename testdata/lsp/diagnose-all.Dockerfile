FROM alpine as B
MAINTAINER x
RUM x
ENV a b
RUN cd /x
# ctrbuild: ignore=DL9999
CMD a
