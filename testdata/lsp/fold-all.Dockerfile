# one
# two
FROM alpine AS a
RUN a \
    # in
    b
RUN <<E cat
x
E

# c
FROM a
COPY <<A <<B /x
1
2
A
1
2
B
