 /* Makes a random key, and writes it in hex to KEYHEX. */
 key = copies('00'x, 64); size = d2c(64, 4)
 call icsf 'CSNBRNGL', 'RANDOM  ', 'zero none size key'
 if length(key) <> 64 then call fail 'CSNBRNGL made no key'
 if key == copies('00'x, 64) then call fail 'CSNBRNGL made no key'
 hex = c2x(key)
 out.1 = left(hex, 64); out.2 = substr(hex, 65)
 'EXECIO 2 DISKW KEYHEX (STEM out. FINIS'
 if rc <> 0 then call fail 'cannot write the data set of KEYHEX'
