 /* REXX: puts an HMAC key into the CKDS under the label (argument).
    Add the word SHORT to permit a key of 32 to 63 bytes. */
 arg label flags
 numeric digits 12
 zero = d2c(0, 4); none = ''
