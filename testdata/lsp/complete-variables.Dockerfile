ARG GLOBAL=1
FROM scratch
ARG GLOBAL
ENV NAME=x OTHER=y
RUN echo ${‸} \
    $N‸
RUN <<EOF
echo $‸
EOF
WORKDIR /$‸
RUN a \
    ‸
CMD x \$‸
# ctrbuild: ignore=‸
FROM $‸
