FR‸OM ‸alpine ‸AS x
COPY --‸chown=1 ‸a b \
    ‸c
COPY ["‸a", "b"]
ONBUILD ‸
ONBUILD WORKDIR ‸x
# COPY ‸
ENV A=1 ‸B=2
