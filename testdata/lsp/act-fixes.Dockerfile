from alpine ‸as b
RUN cd /x && apk add ‸curl
# b  described
FROM alpine AS b‸
# ctrbuild: ignore=latest-tag because why
RUN cd‸ /y
MAINT‸AINER me
