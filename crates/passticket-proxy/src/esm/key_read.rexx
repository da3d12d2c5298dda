 /* Reads the key in hex from KEYHEX. */
 'EXECIO * DISKR KEYHEX (STEM in. FINIS'
 if rc <> 0 then call fail 'cannot read the data set of KEYHEX'
 hex = ''
 do i = 1 to in.0
   if length(strip(in.i)) > 72 then,
     call fail 'write at most 72 hex digits in a line of KEYHEX'
   hex = space(hex in.i, 0)
 end
 digits = length(hex)
 if datatype(hex, 'X') = 0 then call fail 'KEYHEX has other characters'
 if digits // 2 <> 0 then call fail 'the number of digits is odd'
 if digits < 64 then call fail 'the key has less than 32 bytes'
 if digits > 512 then call fail 'the key has more than 256 bytes'
 if digits < 128 & wordpos('SHORT', flags) = 0 then,
   call fail 'the key has less than 64 bytes'
 key = x2c(hex)
