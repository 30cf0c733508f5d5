# A cipher that nobody should use.
tr "A-Za-z" "N-ZA-Mn-za-m"
