

from   alpine  as  b
ENV A=1 \

    # why
  B=2   


run  x   && \   
   y
COPY  a    b
