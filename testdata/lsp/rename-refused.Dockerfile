ARG TARGETARCH
FROM alpine
ARG A ‸B C D renamed
RUN B=2 && echo $B
RUN sh -c 'echo $‸C'
RUN echo $‸TARGETARCH $‸NOTHING $‸D
ENV ‸PATH=/x
