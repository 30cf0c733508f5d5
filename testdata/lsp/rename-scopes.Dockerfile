ARG A=1
FROM alpine AS one
ARG A=2
RUN echo $‸A
FROM alpine AS two
ENV A=3
RUN echo $‸A
FROM alpine AS three
ARG B
ENV B=$‸B
ONBUILD RUN echo $B
FROM three
RUN make B=$B && B=x make
FROM alpine
RUN echo $B
ONBUILD ARG C
ONBUILD RUN echo $‸C
